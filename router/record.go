package router

import (
	"crypto/rand"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// record is what is known of a call at its end. It never holds a prompt, an
// answer or a key.
type record struct {
	request     *request.Request
	route       string
	backend     string // who answered; "" = nobody
	model       string // the model's name there
	reason      Reason // why not the primary; "" = it did
	detail      string // the same for a person
	status      int    // HTTP status; 0 when the client left before there was one
	code        string // of an error of llmsup's own
	usage       wire.Usage
	firstAnswer time.Duration // from the call's arrival to commit; 0 = never
	left        bool          // the client went away
	cut         error         // the answer broke after commit
	resumedBy   string        // who was asked to go on with it; "" = nobody

	meant     bool                    // for the GPU: the route's primary is a server of llmsup's own
	spared    spared                  // the model whose cost an answer of the GPU saves
	reserved  *accounting.Reservation // for the answer; nil = it costs nothing
	concluded bool                    // that is settled, and no attempt comes after it
	entered   bool                    // it is in the ledger
	seen      int64                   // events with an answer in them that were passed on
	firstPart int64                   // tokens before another backend continued the answer
	ofRest    wire.Usage              // what that used

	accounting *accounting.Accounting
	total      accounting.Total // what the attempts cost

	local bool        // a server of llmsup's own answered
	saved *usd.Amount // what the route's fallback would have charged for what was local; nil = unknown
}

// note remembers why an attempt failed, if it is the first one that did: the
// reason says why the primary did not answer.
func (rec *record) note(f *failure) {
	if rec.reason == "" {
		rec.reason, rec.detail = f.reason, f.words()
	} else {
		rec.detail += "; " + f.words()
	}
}

// end is how an answer ended.
func (rec *record) end() string {
	switch {
	case rec.left:
		return "left"
	case rec.cut != nil:
		return "cut"
	}
	return "whole"
}

// statusClientLeft is nginx's word for a client that closed the connection
// before the answer. Nobody is sent it; it stands in the log and the metrics.
const statusClientLeft = 499

// finalStatus is the status that a call is written down with.
func (rec *record) finalStatus() int {
	if rec.left {
		return statusClientLeft
	}
	return rec.status
}

// finish writes the call down: one line in the log, one count in the metrics, and
// a row in the ledger, unless that is written already.
func (rt *Router) finish(rec *record) {
	rec.finishBooks()
	status := rec.finalStatus()
	level := zerolog.InfoLevel
	if rec.cut != nil || status >= 500 {
		level = zerolog.WarnLevel
	}
	line := rt.log.WithLevel(level).
		Str("request_id", rec.request.ID).Str("path", rec.request.Path).Str("model", wire.Shorten(rec.request.Body.Model)).
		Str("backend", rec.backend).Str("reason", string(rec.reason)).Int("status", status)
	if rec.request.Key != "" {
		line.Str("key", rec.request.Key)
	}
	if rec.detail != "" {
		line.Str("detail", rec.detail)
	}
	if rec.code != "" {
		line.Str("code", rec.code)
	}
	if rec.usage.Prompt != nil {
		line.Int64("prompt_tokens", *rec.usage.Prompt)
	}
	if rec.usage.Completion != nil {
		line.Int64("completion_tokens", *rec.usage.Completion)
	}
	if rec.firstAnswer > 0 {
		line.Int64("first_ms", rec.firstAnswer.Milliseconds())
	}
	if rec.resumedBy != "" {
		line.Str("resumed_by", rec.resumedBy)
	}
	if rec.cut != nil {
		line.Str("cut", rec.cut.Error())
	}
	took := time.Since(rec.request.Began)
	line.Int64("ms", took.Milliseconds()).Msg("call")
	rt.metrics.observe(rec, status, took)
}

func newRequestID() string { return rand.Text() }
