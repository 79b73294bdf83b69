package attempt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// Events of a stream.
const (
	roleEvent = `data: {"choices":[{"delta":{"role":"assistant","content":null}}]}` + "\n\n"
	textEvent = `data: {"choices":[{"delta":{"content":" 1"}}]}` + "\n\n"
	wholeChat = `{"choices":[{"message":{"content":" 1"},"finish_reason":"stop"}]}`
)

// fakeBackend is a backend of functions. A nil admit admits every call, a nil send never
// answers.
type fakeBackend struct {
	info         backend.Info
	availability backend.Availability
	admit        func(ctx context.Context, load *backend.Load) (*backend.Lease, *backend.Failure)
	send         func(ctx context.Context) response

	load backend.Load
	sent int // how often Send was called
}

func (b *fakeBackend) Info() backend.Info                 { return b.info }
func (b *fakeBackend) Availability() backend.Availability { return b.availability }
func (b *fakeBackend) Redact(text string) string          { return strings.ReplaceAll(text, "secret", "[key]") }

func (b *fakeBackend) Admit(ctx context.Context, _ *backend.Attempt) (*backend.Lease, *backend.Failure) {
	if b.admit == nil {
		return backend.NewLease(&b.load, nil), nil
	}
	return b.admit(ctx, &b.load)
}

func (b *fakeBackend) Send(ctx context.Context, _ *backend.Attempt) (*http.Response, error) {
	b.sent++
	if b.send == nil {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	r := b.send(ctx)
	if r.err != nil {
		return nil, r.err
	}
	if pipe, ok := r.body.(*io.PipeReader); ok { // as a connection: it ends when the attempt does
		context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(context.Cause(ctx)) })
	}
	return &http.Response{
		StatusCode: r.status, Header: http.Header{"Content-Type": {r.contentType}}, ContentLength: -1, Body: io.NopCloser(r.body),
	}, nil
}

// response is what a backend answers.
type response struct {
	status      int
	contentType string
	body        io.Reader
	err         error // instead of an answer
}

// responds answers with a status and a body.
func responds(status int, contentType string, body io.Reader) func(context.Context) response {
	return func(context.Context) response { return response{status: status, contentType: contentType, body: body} }
}

const (
	eventStream = "text/event-stream"
	jsonType    = "application/json"
)

// chat returns a call of chat completions.
func chat(t *testing.T, stream bool) *request.Request {
	t.Helper()
	raw := `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"x"}]}`
	if stream {
		raw = strings.Replace(raw, "{", `{"stream":true,`, 1)
	}
	body, err := request.ParseBodyFor(nil, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &request.Request{Method: http.MethodPost, Path: "/v1/chat/completions", Body: body, Dialect: wire.Chat, Began: time.Now()}
}

// params are those of an attempt with a timeout of a minute.
func params(t *testing.T, b backend.Backend, stream bool) Params {
	t.Helper()
	return Params{Request: chat(t, stream), Backend: b, Model: "m", Accounting: &accounting.Accounting{}, Timeout: time.Minute, Idle: 10 * time.Second}
}

// withBudget gives an attempt an estimate of a dollar, and a daily limit.
func withBudget(p Params, dollars int64) Params {
	const dollar = usd.Amount(1_000_000_000_000) // in picodollars
	p.Estimate = dollar
	p.Accounting = &accounting.Accounting{Budget: budget.New(budget.Config{Limits: budget.Limits{Daily: new(usd.Amount(dollars) * dollar)}}, nil)}
	return p
}

// reserved returns what the budget has reserved for calls in flight.
func reserved(p Params) usd.Amount { return p.Accounting.Budget.Statuses(time.Now())[0].Reserved }

var errReset = errors.New("connection reset")
