package llamacpp

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

// testCall is the smallest call of one kind.
type testCall struct {
	shows      models.Ability
	path, body string
}

// testCalls are all kinds. llama-server's own /embedding answers with each kind of pooling,
// and /v1/embeddings does not.
var testCalls = []testCall{
	{models.Completion, "/completion", `{"prompt":"1","n_predict":1,"cache_prompt":false}`},
	{models.Embedding, "/embedding", `{"content":"1"}`},
	{models.Rerank, "/v1/rerank", `{"query":"1","documents":["1"]}`},
}

// ordered returns the kinds in the order in which to try them: first what the model is
// described to do, and of that first what flags have restricted the server to. A model
// of which nothing is known is taken for one that generates.
//
// The order is not only a matter of time. A decoder with --embeddings and without pooling
// ends with a segmentation fault if it is asked for a completion (build 11669).
func ordered(d models.Description) []testCall {
	order := slices.Clone(testCalls)
	slices.SortStableFunc(order, func(a, b testCall) int { return rank(a, d) - rank(b, d) })
	return order
}

func rank(c testCall, d models.Description) int {
	switch {
	case !d.Can(c.shows):
		return 2
	case c.shows == models.Completion:
		return 1
	}
	return 0
}

// TestCall implements supervisor.Probe. If llama-server says that it does not support a kind of
// call, the next kind is tried: that shows nothing about its condition.
func (p *probe) TestCall(ctx context.Context) error {
	var refusals []string
	for _, c := range ordered(p.description()) {
		status, body, err := p.do(ctx, http.MethodPost, c.path, c.body)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			p.answered(c.shows)
			return nil
		}
		err = fmt.Errorf("%s answered %d%s", c.path, status, messageIn(body))
		if !refused(status, body) {
			return err
		}
		p.refused(c.shows)
		refusals = append(refusals, err.Error())
	}
	return fmt.Errorf("%w: %s", supervisor.ErrServesNothing, strings.Join(refusals, "; "))
}

// refused reports whether an answer says that this server never answers such a call: it
// was started for other calls (501), the build lacks the path (404), or the model cannot.
func refused(status int, body []byte) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusNotFound:
		return true
	case http.StatusInternalServerError, http.StatusBadRequest:
		// "the current context does not support logits computation. skipping", and without
		// "support" in older builds.
		message := gjson.GetBytes(body, "error.message").Str
		return strings.Contains(message, "logits computation") || strings.Contains(message, "not support")
	}
	return false
}

// maxMessage bounds what is shown of an error's message, in characters.
const maxMessage = 200

// messageIn returns the message of an error's body as ": message"; "" = it has none.
func messageIn(body []byte) string {
	message := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(gjson.GetBytes(body, "error.message").Str)))
	switch {
	case len(message) == 0:
		return ""
	case len(message) > maxMessage:
		return ": " + string(message[:maxMessage]) + "..."
	}
	return ": " + string(message)
}
