package router

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/attempt"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/record"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

func TestMain(m *testing.M) {
	// Most tests here wait for timeouts, and not for a core.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// Idle connections of clients that live as long as the test binary.
		goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreTopFunction("internal/poll.runtime_pollWait"),
		// net/http waits half a second before it closes a connection whose body it has not read.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// waitLimit is how long a test waits for an event, on however busy a machine. It is less
// than the routes' timeouts, except in tests of those.
const waitLimit = 30 * time.Second

// atOnce is far more than a busy machine adds to what takes no time, such as a cancellation. It is less
// than the routes' timeouts.
const atOnce = 20 * time.Second

// fakeBackend is a backend that behaves as a test sets it, and records the requests that
// it receives.
type fakeBackend struct {
	*httptest.Server
	mu           sync.Mutex
	handler      http.HandlerFunc
	received     []receivedRequest
	requestEnded chan struct{} // receives when a request's context has ended
}

// receivedRequest is a request that a fakeBackend received.
type receivedRequest struct {
	path   string
	query  string
	header http.Header
	body   []byte
}

func newFakeBackend(t *testing.T, behave http.HandlerFunc) *fakeBackend {
	t.Helper()
	p := &fakeBackend{handler: behave, requestEnded: make(chan struct{}, 100_000)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		p.mu.Lock()
		p.received = append(p.received, receivedRequest{r.URL.Path, r.URL.RawQuery, r.Header.Clone(), body})
		behave := p.handler
		p.mu.Unlock()
		context.AfterFunc(r.Context(), func() { p.requestEnded <- struct{}{} })
		behave(w, r)
	}))
	p.Config.ErrorLog = nil
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

// behaves changes how the backend answers from now on.
func (p *fakeBackend) behaves(behave http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handler = behave
}

func (p *fakeBackend) requests() []receivedRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]receivedRequest{}, p.received...)
}

// fakeLocal is a Local whose state a test sets.
type fakeLocal struct {
	engine  *models.Capabilities // nil = llama-server's
	mu      sync.Mutex
	wants   []bool // the arguments of AddDemand
	state   backend.LocalState
	changed chan struct{} // the state's Changed, once enter has been called
}

// llamaServer is what llama-server has.
var llamaServer = llamacpp.Engine{}.Capabilities(nil)

func (f *fakeLocal) State() backend.LocalState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fakeLocal) Engine() *models.Capabilities {
	if f.engine != nil {
		return f.engine
	}
	return &llamaServer
}

func (f *fakeLocal) AddDemand(waits bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wants = append(f.wants, waits)
}

// BusySlots asks /slots, as llama-server's engine does.
func (f *fakeLocal) BusySlots(ctx context.Context) (busy int, err error) {
	now := f.State()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://local/slots", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+now.Key)
	resp, err := (&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, now.Network, now.Address)
		},
	}).RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var slots []struct {
		Processing bool `json:"is_processing"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&slots); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("/slots answered %d: %w", resp.StatusCode, err)
	}
	for _, slot := range slots {
		if slot.Processing {
			busy++
		}
	}
	return busy, nil
}

func (f *fakeLocal) edit(edit func(*backend.LocalState)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.state)
}

// transition changes the state as the supervisor does: goroutines that wait for a change
// are woken.
func (f *fakeLocal) transition(edit func(*backend.LocalState)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	edit(&f.state)
	if f.changed != nil {
		close(f.changed)
	}
	f.changed = make(chan struct{})
	f.state.Changed = f.changed
}

// ready and loading are edits of a local server's state.
func ready(s *backend.LocalState) {
	s.Reason, s.Detail, s.Alive, s.Returning, s.ReadyAt, s.Slots = "", "", true, false, time.Time{}, 2
}

func loading(s *backend.LocalState) {
	s.Reason, s.Detail, s.Alive, s.Returning, s.Slots = backend.Loading, "is loading", false, true, 0
}

// logBuffer collects the router's log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fixture is a router between a fake local server and a fake cloud.
type fixture struct {
	t             *testing.T
	url           string
	local, cloud  *fakeBackend
	state         *fakeLocal
	processExited chan struct{} // closed to say that the local process ended
	router        *Router
	log           *logBuffer
}

const (
	cloudKey = "sk-or-upstream-secret"
	localKey = "local-secret"
)

// newFixture makes a router with the routes of most tests: local/qwen with a fallback,
// local/alone without, premium names, and a pattern.
func newFixture(t *testing.T, local, cloud http.HandlerFunc, edits ...func(*plan.Config, map[string]models.Route)) *fixture {
	t.Helper()
	b := &fixture{
		t: t, local: newFakeBackend(t, local), cloud: newFakeBackend(t, cloud), state: &fakeLocal{},
		processExited: make(chan struct{}), log: &logBuffer{},
	}
	b.state.state = backend.LocalState{Alive: true, Network: "tcp", Address: b.local.Listener.Addr().String(), Key: localKey, Gone: b.processExited}
	routes := map[string]models.Route{
		"local/qwen":  {Primary: "qwen", Fallback: "openrouter", FallbackModel: "qwen/qwen-2.5-14b-instruct", Timeout: time.Minute},
		"local/alone": {Primary: "qwen", Timeout: time.Minute},
		"local":       {Primary: "qwen", Timeout: time.Minute},
		"gpt-4o":      {Primary: "openrouter", PrimaryModel: "openai/gpt-4o", Timeout: time.Minute},
		"*/*":         {Primary: "openrouter", Timeout: time.Minute},
	}
	cfg := plan.Config{
		Engine: llamacpp.Engine{}.Capabilities(nil),
		Locals: map[string]backend.Local{"qwen": b.state},
		Bodies: request.Limits{Bytes: 32 << 20},
		Upstreams: []backend.UpstreamConfig{
			{Name: "openrouter", BaseURL: b.cloud.URL + "/api/v1", Key: cloudKey},
		},
	}
	for _, edit := range edits {
		edit(&cfg, routes)
	}
	var err error
	if cfg.Table, err = models.NewTable(routes); err != nil {
		t.Fatal(err)
	}
	if b.router, err = New(cfg, zerolog.New(b.log)); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(b.router)
	t.Cleanup(front.Close)
	b.url = front.URL
	return b
}

// reply is what a client received, read to its end.
type reply struct {
	status  int
	header  http.Header
	body    string
	readErr error // how reading the body ended; nil = a clean end
}

func (r reply) backend() string { return r.header.Get(wire.HeaderBackend) }
func (r reply) reason() string  { return r.header.Get(wire.HeaderReason) }

func (b *fixture) post(path, body string, headers ...string) reply {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	r := reply{resp.StatusCode, resp.Header, string(got), err}
	b.wantShouldRetry(path, r)
	return r
}

// wantShouldRetry checks what holds for every error: it says whether a retry helps. The
// health of the routes is no error.
func (b *fixture) wantShouldRetry(path string, r reply) {
	b.t.Helper()
	says := r.header.Get(wire.HeaderShouldRetry)
	if isError := r.status >= 400 && !(path == healthPath && r.status == http.StatusServiceUnavailable); isError != (says != "") {
		b.t.Errorf("%s: %d has X-Should-Retry %q", path, r.status, says)
	}
}

func (b *fixture) chat(model string, stream bool) reply {
	b.t.Helper()
	return b.post("/v1/chat/completions", fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[]}`, model, stream))
}

// Answers as the backends give them.
const (
	wholeChat  = `{"object":"chat.completion","choices":[{"message":{"content":" 1 2 3"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}`
	roleEvent  = `data: {"choices":[{"delta":{"role":"assistant","content":null}}]}` + "\n\n"
	textEvent  = `data: {"choices":[{"delta":{"content":" 1"}}]}` + "\n\n"
	finalEvent = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	usageEvent = `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}` + "\n\n"
	doneEvent  = "data: [DONE]\n\n"
	wholeSSE   = roleEvent + textEvent + finalEvent + usageEvent + doneEvent
)

func isStreaming(r *http.Request, body []byte) bool {
	return bytes.Contains(body, []byte(`"stream":true`))
}

// answers is a backend that answers chat calls.
func answers(w http.ResponseWriter, r *http.Request) { writeAnswer(w, r, false) }

func writeAnswer(w http.ResponseWriter, _ *http.Request, stream bool) {
	if stream {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, wholeSSE)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, wholeChat)
}

func (p *fakeBackend) lastBody() []byte {
	got := p.requests()
	return got[len(got)-1].body
}

// answersInKind makes b answer calls: streams with a stream, others with JSON.
func (p *fakeBackend) answersInKind() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { writeAnswer(w, r, isStreaming(r, p.lastBody())) }
}

func status(code int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// sends is a backend that sends parts of a stream and then behaves as last says: it may
// end, hang or break the connection.
func sends(last http.HandlerFunc, parts ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, part := range parts {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
		}
		last(w, r)
	}
}

func ends(http.ResponseWriter, *http.Request)      {}
func hangs(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
func breaks(http.ResponseWriter, *http.Request)    { panic(http.ErrAbortHandler) }

// raw answers with bytes as they are, and closes the connection.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, answer) // the client may have closed the connection
		_ = conn.Close()
	}
}

func parseRequest(t *testing.T, raw string) request.Body {
	t.Helper()
	b, err := request.ParseBodyFor(llamacpp.Engine{}.Capabilities(nil).Fields, []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stallsSoonIf shortens the time after which a stream has stalled, for a backend that hangs. Others
// may be slow on a busy machine.
func stallsSoonIf(hangs bool) func(*plan.Config, map[string]models.Route) {
	return func(c *plan.Config, _ map[string]models.Route) {
		if hangs {
			c.IdleTimeout = time.Second
		}
	}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !holdsInTime(holds) {
		t.Fatalf("did not happen within %s: %s", waitLimit, what)
	}
}

// holdsInTime waits for a condition, and says whether it came to hold. Goroutines that
// may not end a test use it instead of eventually.
func holdsInTime(holds func() bool) bool {
	for deadline := time.Now().Add(waitLimit); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// outlast lets a configured time limit pass. That the limit does not apply cannot be seen
// earlier; there is no event to wait for.
func outlast(limit time.Duration) { time.Sleep(limit + 50*time.Millisecond) }

// waitIdle waits until the router has no call. A call is logged and counted after the
// last byte of its answer.
func (b *fixture) waitIdle() {
	b.t.Helper()
	eventually(b.t, "the router has no call", func() bool { return b.router.Inflight() == 0 })
}

// fixedBackend answers every call with the same response.
type fixedBackend struct {
	resp *http.Response
	load backend.Load
}

func (b *fixedBackend) Info() backend.Info                 { return backend.Info{Name: "u"} }
func (b *fixedBackend) Availability() backend.Availability { return backend.Availability{} }
func (b *fixedBackend) Redact(text string) string          { return text }

func (b *fixedBackend) Admit(context.Context, *backend.Attempt) (*backend.Lease, *backend.Failure) {
	return backend.NewLease(&b.load, nil), nil
}

// Send returns the response, whose body ends when the attempt does.
func (b *fixedBackend) Send(ctx context.Context, _ *backend.Attempt) (*http.Response, error) {
	if pipe, ok := b.resp.Body.(interface{ CloseWithError(error) error }); ok {
		context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(context.Cause(ctx)) })
	}
	return b.resp, nil
}

// relayResponse relays what a backend answers to a client.
func relayResponse(t *testing.T, w http.ResponseWriter, resp *http.Response, d wire.Dialect, idle time.Duration) (started time.Time, err error) {
	t.Helper()
	c := &request.Request{Path: "/v1/chat/completions", Dialect: d, Body: request.Body{Stream: true}}
	p := plan.Plan{Accounting: &accounting.Accounting{}}
	x := &exchange{w: w, ctx: t.Context(), request: c, plan: p, rec: record.New(c, p)}
	x.rec.Backend = "u"
	a, failed := attempt.Start(t.Context(), attempt.Params{
		Request: c, Backend: &fixedBackend{resp: resp}, Accounting: p.Accounting, Timeout: time.Hour, Idle: idle,
	})
	if failed != nil {
		t.Fatal(failed.LogMessage())
	}
	started = time.Now()
	return started, x.relay(a, nil)
}
