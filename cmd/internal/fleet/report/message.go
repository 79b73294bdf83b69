package report

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// The subjects. A box sends one request to all others, and is the only one that subscribes to
// the answers to it.
const (
	requestSubject = "llmsup.reports.ask"
	answerSubjects = "llmsup.reports.answers."
)

// The purposes for which messages are sealed: an answer cannot be sent as a request.
// Boxes of other versions have the same.
const (
	requestPurpose = "report question"
	answerPurpose  = "report answer"
)

// request is a message that calls the control API of each box.
type request struct {
	ID string `json:"id"` // that no other request has
	apiCall
}

// apiCall is a call of the control API.
type apiCall struct {
	Path string          `json:"path"`           // with its query
	Body json.RawMessage `json:"body,omitempty"` // of a command; nil = nothing is changed
	By   string          `json:"by,omitempty"`   // of a command: the operator, for the log
}

// subject returns that of the answers to a request. It depends only on what is sealed, so that
// an outsider who sends a request again can direct no answer elsewhere.
func (q *request) subject() string { return answerSubjects + q.ID }

// answer is what the control API of a box has answered.
type answer struct {
	status int // of HTTP
	body   []byte
}

// part is a part of an answer. Its JSON and a line feed come before the bytes of the body.
type part struct {
	ID       string `json:"id"` // of the request
	Instance string `json:"instance"`
	Part     int    `json:"part"` // from 0
	Parts    int    `json:"parts"`
	Status   int    `json:"status"`

	body []byte
}

const (
	// partSize limits the body of a part, in bytes: like an announcement, a part has at most
	// 64 KiB, which any NATS server takes.
	partSize = 48 << 10
	// maxAnswer limits an answer, in bytes. A larger one is replaced by an error.
	maxAnswer = 16 << 20
	maxParts  = (maxAnswer + partSize - 1) / partSize
)

// split returns the parts of an answer to a request, sealed.
func split(c *fleet.Conn, q *request, a answer) (messages [][]byte, err error) {
	n := max((len(a.body)+partSize-1)/partSize, 1)
	for i := range n {
		head, err := json.Marshal(part{ID: q.ID, Instance: c.Instance, Part: i, Parts: n, Status: a.status})
		if err != nil {
			return nil, err
		}
		body := a.body[i*partSize : min((i+1)*partSize, len(a.body))]
		messages = append(messages, c.Seal(answerPurpose, append(append(head, '\n'), body...)))
	}
	return messages, nil
}

// openPart opens a part of an answer.
func openPart(c *fleet.Conn, message []byte) (p part, err error) {
	opened, err := c.Open(answerPurpose, message)
	if err != nil {
		return p, err
	}
	head, body, found := bytes.Cut(opened, []byte{'\n'})
	if err := json.Unmarshal(head, &p); err != nil {
		return p, err
	}
	if p.body = body; !found || p.Parts < 1 || p.Parts > maxParts || p.Part < 0 || p.Part >= p.Parts {
		return p, errors.New("it is not a part of an answer")
	}
	return p, nil
}

// joiner joins the parts of an answer, which may come in any order, and more than once.
type joiner struct {
	parts [][]byte
	have  int
}

// add returns the whole answer once all of its parts are there.
func (j *joiner) add(p *part) (a answer, whole bool) {
	if j.parts == nil {
		j.parts = make([][]byte, p.Parts)
	}
	if len(j.parts) != p.Parts || j.parts[p.Part] != nil {
		return a, false
	}
	j.parts[p.Part] = append([]byte{}, p.body...) // not nil
	if j.have++; j.have < p.Parts {
		return a, false
	}
	return answer{p.Status, bytes.Join(j.parts, nil)}, true
}
