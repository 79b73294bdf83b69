package router

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting/accountingtest"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/price"
)

// anyEngine is a fixture with a further local server, tts, whose program is not llama-server.
type anyEngine struct {
	*fixture
	engine *fakeBackend
	server *fakeLocal
	gone   chan struct{} // closed to say that its process ended
}

// newAnyEngine makes the routes tts, which has a fallback, and alone and named, which have none.
func newAnyEngine(t *testing.T, behave, cloud http.HandlerFunc, edits ...func(*plan.Config, map[string]models.Route)) anyEngine {
	t.Helper()
	a := anyEngine{engine: newFakeBackend(t, behave), gone: make(chan struct{})}
	a.server = &fakeLocal{
		engine: &models.Capabilities{Program: "tts-server", BasePath: "/v1"},
		state:  backend.LocalState{Alive: true, Network: "tcp", Address: a.engine.Listener.Addr().String(), Gone: a.gone, Status: "ready"},
	}
	add := func(c *plan.Config, routes map[string]models.Route) {
		c.Locals["tts"] = a.server
		routes["tts"] = models.Route{Primary: "tts", Fallback: "openrouter", FallbackModel: "vendor/tts", Timeout: time.Minute}
		routes["alone"] = models.Route{Primary: "tts", Timeout: time.Minute}
		routes["named"] = models.Route{Primary: "tts", PrimaryModel: "Org/TTS", Timeout: time.Minute}
	}
	a.fixture = newFixture(t, answers, cloud, append([]func(*plan.Config, map[string]models.Route){add}, edits...)...)
	return a
}

// publicCalls are a call at each public path that an engine other than llama-server may have.
func publicCalls(t *testing.T, model string) map[string]struct{ body, contentType string } {
	t.Helper()
	calls := map[string]struct{ body, contentType string }{}
	for path, rest := range map[string]string{
		"/v1/chat/completions": `"messages":[]`, "/v1/completions": `"prompt":"1"`, "/v1/embeddings": `"input":"1"`, "/v1/responses": `"input":"1"`,
		"/v1/messages": `"messages":[]`, "/v1/rerank": `"documents":["1"]`, "/v2/rerank": `"documents":["1"]`, "/v1/moderations": `"input":"1"`,
		"/v1/images/generations": `"prompt":"1"`, "/v1/audio/speech": `"input":"1"`,
	} {
		calls[path] = struct{ body, contentType string }{`{"model":"` + model + `",` + rest + `}`, "application/json"}
	}
	for _, path := range []string{"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"} {
		body, contentType := form(t, formPart{"file", "a.wav", audioFile}, formPart{"model", "", model})
		calls[path] = struct{ body, contentType string }{body, contentType}
	}
	return calls
}

// TestAnyEngine: a local server that is not llama-server is given the calls for its model at
// every public path, below its base path, and neither the client's key nor one of llmsup's.
func TestAnyEngine(t *testing.T) {
	for base, root := range map[string]string{"/v1": "/v1", "/": "", "/api/v1/": "/api/v1", "/openai": "/openai"} {
		a := newAnyEngine(t, status(200, `{"data":[],"text":"x","choices":[{"text":"1","message":{"content":"1"}}],"content":[{"type":"text","text":"1"}],"output":[{"type":"message"}]}`), answers)
		a.server.engine.BasePath = base
		for name, want := range map[string]string{"alone": "tts", "named": "Org/TTS"} {
			for path, call := range publicCalls(t, name) {
				r := a.post(path, call.body, "Content-Type", call.contentType, "Authorization", "Bearer client-secret", "X-Api-Key", "client-secret", "Cookie", "a=client-secret")
				if r.status != 200 || r.backend() != "tts" {
					t.Errorf("%s: %d %s from %q", path, r.status, r.body, r.backend())
				}
				calls := a.engine.requests()
				got := calls[len(calls)-1]
				wantPath := strings.Replace(root+strings.TrimPrefix(path, "/v1"), root+"/v2", strings.TrimSuffix(root, "/v1")+"/v2", 1)
				if got.path != wantPath || string(got.body) != strings.Replace(call.body, name, want, 1) || got.header.Get("Content-Type") != call.contentType {
					t.Errorf("%s at %q: sent to %s, want %s:\n%s", path, base, got.path, wantPath, got.body)
				}
				for header, values := range got.header {
					if header == "Authorization" || strings.Contains(strings.Join(values, ""), "secret") {
						t.Errorf("%s: the engine got the header %s: %q", path, header, values)
					}
				}
			}
		}
	}
}

// TestAnyEngineLacksPath: which paths such an engine has is known only from its answers.
func TestAnyEngineLacksPath(t *testing.T) {
	for _, code := range []int{404, 405, 501} {
		const own = `{"detail":"Not Found"}`
		a := newAnyEngine(t, status(code, own), status(200, `{"data":[]}`))
		for path, call := range publicCalls(t, "tts") {
			if path == "/v1/messages" || path == "/v1/responses" || path == "/v1/chat/completions" || path == "/v1/completions" {
				continue // the cloud's answer is none there
			}
			if r := a.post(path, call.body, "Content-Type", call.contentType); r.status != 200 || r.backend() != "openrouter" || r.reason() != "unsupported" {
				t.Errorf("%d at %s: %d %s from %q (%s)", code, path, r.status, r.body, r.backend(), r.reason())
			}
		}
		if r := a.post("/v1/audio/speech", `{"model":"alone"}`); r.status != code || r.body != own || r.header.Get("X-Should-Retry") != "false" {
			t.Errorf("%d without a fallback: %+v", code, r)
		}
	}
	// llama-server has all that it says it has: there a 404 is about something else.
	b := newFixture(t, status(404, `{}`), answers)
	if r := b.chat("local/qwen", false); r.reason() != "status" {
		t.Errorf("llama-server's 404: %s", r.reason())
	}
}

// TestAnyEngineOwnPaths: llama-server's own paths do not exist there.
func TestAnyEngineOwnPaths(t *testing.T) {
	a := newAnyEngine(t, answers, answers)
	for _, path := range []string{"/tokenize", "/detokenize", "/apply-template", "/infill", "/v1/chat/completions/input_tokens", "/props?model=alone", "/slots/0?model=tts&action=save"} {
		r := a.post(path, `{"model":"alone","content":"1"}`)
		if message := gjson.Get(r.body, "error.message").Str; r.status != 400 || !strings.Contains(message, "tts runs tts-server, which has no ") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if n := len(a.engine.requests()); n != 0 {
		t.Errorf("the engine was asked %d times", n)
	}
	if r := a.post("/completions", `{"model":"alone","prompt":"1"}`); r.status != 200 || a.engine.requests()[0].path != "/v1/completions" {
		t.Errorf("OpenAI's own completions: %d %s", r.status, r.body)
	}
}

// audio is a handler that sends the beginning of an audio file, and then behaves as rest says.
func audio(rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "audio/wav")
		_, _ = io.WriteString(w, "RIFF")
		_ = http.NewResponseController(w).Flush()
		rest(w, r)
	}
}

// startSpeech makes a call for speech, and returns its answer once it has begun.
func (a anyEngine) startSpeech(ctx context.Context, model string) (io.ReadCloser, http.Header) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/v1/audio/speech", strings.NewReader(`{"model":"`+model+`","input":"hi"}`))
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(resp.Body, head); err != nil || string(head) != "RIFF" {
		a.t.Fatalf("%q, %v", head, err)
	}
	return resp.Body, resp.Header
}

// TestSpeechOfAnyEngine: speech reaches the client while it is made, counts as output of the
// server while it does, and is cancelled with its client.
func TestSpeechOfAnyEngine(t *testing.T) {
	more, cancelled := make(chan string), make(chan struct{})
	a := newAnyEngine(t, audio(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case part := <-more:
				_, _ = io.WriteString(w, part)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				close(cancelled)
				return
			}
		}
	}), answers)
	ctx, leave := context.WithCancel(t.Context())
	body, header := a.startSpeech(ctx, "tts")
	defer body.Close()
	if header.Get("X-Llmsup-Backend") != "tts" || header.Get("X-Llmsup-Reason") != "" {
		t.Errorf("%v", header)
	}
	before := a.router.Load("tts").Bytes
	more <- "more"
	part := make([]byte, 4)
	if _, err := io.ReadFull(body, part); err != nil || string(part) != "more" {
		t.Errorf("%q, %v", part, err)
	}
	if got := a.router.Load("tts").Bytes - before; got != 4 {
		t.Errorf("%d bytes counted, want 4: a long answer would look like a hung server", got)
	}
	left := time.Now()
	leave()
	<-cancelled
	if took := time.Since(left); took > atOnce {
		t.Errorf("cancelled after %s", took)
	}
	if n := len(a.cloud.requests()); n != 0 {
		t.Errorf("the cloud was asked %d times", n)
	}
}

// TestBrokenSpeech: until the first byte the call moves to the fallback; an answer that breaks
// afterwards never looks whole.
func TestBrokenSpeech(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n"
	for name, tc := range map[string]struct {
		behave http.HandlerFunc
		exits  bool   // the engine's process ends with the answer
		want   string // the answer; "" = it breaks
	}{
		"whole":                        {audio(ends), false, "RIFF"},
		"no answer":                    {hangs, false, "cloud"},
		"broken":                       {breaks, false, "cloud"},
		"an error":                     {status(500, `{"error":"out of memory"}`), false, "cloud"},
		"an error in a 200":            {status(200, `{"error":"out of memory"}`), false, "cloud"},
		"no audio":                     {status(200, "", "Content-Type", "audio/wav"), false, "cloud"},
		"broken later":                 {audio(breaks), false, ""},
		"shorter than its length":      {raw(head + "Content-Length: 9\r\n\r\nRIFF"), false, ""},
		"a cut chunk":                  {raw(head + "Transfer-Encoding: chunked\r\n\r\n4\r\nRIFF\r\n"), false, ""},
		"without a length":             {raw(head + "\r\nRIFF"), false, "RIFF"},
		"without a length, and exits":  {raw(head + "\r\nRIFF"), true, ""},
		"with its length, and exits":   {raw(head + "Content-Length: 4\r\n\r\nRIFF"), true, "RIFF"},
		"nothing and no length, exits": {raw(head + "\r\n"), true, "cloud"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAnyEngine(t, nil, status(200, "cloud", "Content-Type", "audio/wav"), func(_ *plan.Config, routes map[string]models.Route) {
				if route := routes["tts"]; name == "no answer" {
					route.Timeout = time.Second
					routes["tts"] = route
				}
			})
			a.engine.handler = func(w http.ResponseWriter, r *http.Request) {
				if tc.exits {
					_ = a.engine.Listener.Close()
				}
				tc.behave(w, r)
			}
			r := a.post("/v1/audio/speech", `{"model":"tts","input":"hi"}`)
			if (r.readErr != nil) != (tc.want == "") || tc.want != "" && r.body != tc.want || (r.backend() == "openrouter") != (tc.want == "cloud") {
				t.Errorf("%d %q, %v from %s", r.status, r.body, r.readErr, r.backend())
			}
		})
	}
}

// TestTextWithoutLength: the end of the connection is the end of a text only if the process
// that sent it is still there.
func TestTextWithoutLength(t *testing.T) {
	for exits, want := range map[bool]string{false: "tts", true: "openrouter"} {
		a := newAnyEngine(t, nil, status(200, "all of it", "Content-Type", "text/plain"))
		a.engine.handler = func(w http.ResponseWriter, r *http.Request) {
			if exits {
				_ = a.engine.Listener.Close()
			}
			raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it")(w, r)
		}
		text, contentType := form(t, formPart{"file", "a.wav", audioFile}, formPart{"model", "", "tts"})
		if r := a.post("/v1/audio/transcriptions", text, "Content-Type", contentType); r.status != 200 || r.body != "all of it" || r.backend() != want {
			t.Errorf("exits %t: %d %q from %q", exits, r.status, r.body, r.backend())
		}
	}
}

// TestAnyEngineIsFree: an answer costs nothing, and saves what the fallback would have charged:
// unknown, and never 0, if the engine reports no tokens.
func TestAnyEngineIsFree(t *testing.T) {
	for name, tc := range map[string]struct{ path, answer, want string }{
		"with usage": {"/v1/embeddings", `{"data":[],"usage":{"prompt_tokens":1000}}`, "cost 0 unknown 0, saved 0.002 unknown 0"},
		"an image":   {"/v1/images/generations", `{"data":[],"usage":{"input_tokens":10,"output_tokens":100}}`, "cost 0 unknown 0, saved 0.00042 unknown 0"},
		"unknown":    {"/v1/images/generations", `{"data":[{"b64_json":"aa"}]}`, "cost 0 unknown 0, saved 0 unknown 1"},
		"speech":     {"/v1/audio/speech", "RIFF", "cost 0 unknown 0, saved 0 unknown 1"},
	} {
		t.Run(name, func(t *testing.T) {
			edit, acct := withLedger(t, budget.Limits{})
			a := newAnyEngine(t, status(200, tc.answer, "Content-Type", map[bool]string{true: "application/json", false: "audio/wav"}[tc.answer[0] == '{']), answers, edit, func(c *plan.Config, _ map[string]models.Route) {
				prompt, _ := price.Parse("2e-6")
				completion, _ := price.Parse("4e-6")
				c.Accounting.Prices = accountingtest.PriceLists{"openrouter": price.NewPriceList(price.Table{"vendor/tts": {Prompt: prompt, Completion: completion}}, nil, nil)}
			})
			if r := a.post(tc.path, `{"model":"tts","input":"1"}`); r.status != 200 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			a.waitIdle()
			if got := summary(usageBy(t, acct, ledger.ByRoute).Total); !strings.Contains(got, tc.want) {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

// TestAnyEngineWithoutSlots: without slots, llmsup sets no limit; with slots, calls wait.
func TestAnyEngineWithoutSlots(t *testing.T) {
	for slots, want := range map[int]int{0: 8, 2: 2} {
		working, release := make(chan struct{}, 8), make(chan struct{})
		a := newAnyEngine(t, func(w http.ResponseWriter, r *http.Request) {
			working <- struct{}{}
			<-release
			status(200, `{"data":[]}`)(w, r)
		}, answers)
		a.server.edit(func(s *backend.LocalState) { s.Slots = slots })
		done := make(chan reply, 8)
		for range 8 {
			go func() { done <- a.post("/v1/embeddings", `{"model":"alone","input":["a","b","c"]}`) }()
		}
		for range want {
			<-working
		}
		eventually(t, "the others wait", func() bool { return a.router.Load("tts").Queued == 8-want })
		close(release)
		for range 8 {
			if r := <-done; r.status != 200 {
				t.Errorf("%d %s", r.status, r.body)
			}
		}
	}
}

// TestListensNeedsNoRequest: whether the process still listens is found out without a request.
func TestListensNeedsNoRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := backend.NewServer("tts", &fakeLocal{state: backend.LocalState{Network: "tcp", Address: listener.Addr().String()}}, nil)
	if !b.Listens(t.Context()) {
		t.Error("it listens")
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err != io.EOF { //nolint:errorlint // as io.Reader returns it
		t.Errorf("%v, want nothing but the end", err)
	}
	_ = conn.Close()
	_ = listener.Close()
	if b.Listens(t.Context()) {
		t.Error("it does not listen any more")
	}
}
