package accounting

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/price"
)

const secret = "sk-or-v1-secret"

// priceServer is an upstream that lists its prices, or does not.
type priceServer struct {
	*httptest.Server
	answer http.HandlerFunc
	mu     sync.Mutex
	asked  []string // paths, and the keys that were shown
}

func newPriceServer(t *testing.T, answer http.HandlerFunc) *priceServer {
	t.Helper()
	s := &priceServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")))
		s.mu.Unlock()
		s.answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *priceServer) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, ", ")
}

// lists answers with the price of one model.
func lists(model string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"data":[{"id":%q,"pricing":{"prompt":"0.000001","completion":"0.000002"}}]}`, model)
	}
}

// logLines is a log whose lines a test can wait for.
type logLines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(p)
	l.mu.Unlock()
	select {
	case l.lines <- string(p):
	default:
	}
	return len(p), nil
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// next waits for the next line.
func (l *logLines) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l.lines:
		return line
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was logged")
		return ""
	}
}

func noLoops(string) bool { return false }

// begin runs prices in a folder for some upstreams, and returns what ends them.
func begin(t *testing.T, dir string, upstreams ...backend.UpstreamConfig) (p *Prices, log *logLines, end func()) {
	t.Helper()
	log = &logLines{lines: make(chan string, 100)}
	p = newPrices(dir, zerolog.New(log))
	p.ApplyConfig(&config.Config{}, upstreams)
	ctx, cancel := context.WithCancel(context.Background())
	p.Fetch(ctx, noLoops)
	end = sync.OnceFunc(func() { cancel(); p.Wait() })
	t.Cleanup(end)
	return p, log, end
}

func costs(p *Prices, upstream, model string) string {
	cost, known := p.Book(upstream).Cost(model, price.Tokens{Prompt: 1, Completion: 1})
	if !known {
		return "?"
	}
	return cost.String()
}

// TestPricesAreFetched: each upstream is asked once, with its own key; what it said
// is kept, and serves the next llmsup without asking, key or no key.
func TestPricesAreFetched(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := filepath.Join(t.TempDir(), "prices")
	s, free := newPriceServer(t, lists("m")), newPriceServer(t, lists("free"))
	keyed, open := backend.UpstreamConfig{Name: "keyed", BaseURL: s.URL + "/api/v1/", Key: secret}, backend.UpstreamConfig{Name: "open", BaseURL: free.URL}
	p, log, end := begin(t, dir, keyed, open)
	for range 2 {
		if line := log.next(t); !strings.Contains(line, "fetched the upstream's prices") {
			t.Errorf("logged %s", line)
		}
	}
	if got := costs(p, "keyed", "m") + " " + costs(p, "open", "free") + " " + costs(p, "open", "m") + " " + costs(p, "nobody", "m"); got != "0.000003 0.000003 ? ?" {
		t.Errorf("they cost %s", got)
	}
	if s.requests() != "GET /api/v1/models Bearer "+secret || free.requests() != "GET /v1/models" {
		t.Errorf("asked %s and %s", s.requests(), free.requests())
	}
	end()

	keyed.Key, keyed.Missing = "", "set IT"
	p, log, end = begin(t, dir, keyed, open)
	if costs(p, "keyed", "m") != "0.000003" {
		t.Error("what was kept does not serve")
	}
	end()
	if strings.Count(s.requests(), "GET") != 1 || strings.Count(free.requests(), "GET") != 1 || log.String() != "" {
		t.Errorf("asked %s and %s again\n%s", s.requests(), free.requests(), log)
	}
	s.Close()
	free.Close()
}

// TestPriceErrors: none of that is more than a line in the log, which has no
// key in it, and none that an upstream simply has no list.
func TestPriceErrors(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	elsewhere := newPriceServer(t, lists("stolen"))
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		level  string
		want   string
	}{
		"no list": {http.NotFound, "debug", "it answered 404 Not Found"},
		"no prices": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"vllm"}]}`)
		}, "debug", "has 1 models and no price"},
		"a wrong key": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "info", "it answered 401 Unauthorized"},
		"no JSON":     {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>"+r.Header.Get("Authorization")) }, "info", "is not JSON"},
		"a redirect":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "info", "it answered 302 Found"},
		"too much": {func(w http.ResponseWriter, _ *http.Request) {
			for range 9 << 4 {
				_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<16))
			}
		}, "info", "it exceeds 8 MiB"},
		"a break": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "info", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPriceServer(t, tc.answer)
			p, log, end := begin(t, t.TempDir(), backend.UpstreamConfig{Name: "openrouter", BaseURL: s.URL + "/v1", Key: secret})
			line := log.next(t)
			end()
			s.Close()
			if !strings.Contains(line, `"level":"`+tc.level+`"`) || !strings.Contains(line, tc.want) || strings.Contains(log.String(), secret) {
				t.Errorf("logged %s, want %s with %q", line, tc.level, tc.want)
			}
			// For the models of the built-in table something is known all the same.
			if costs(p, "openrouter", "openai/gpt-4o") == "?" || costs(p, "openrouter", "stolen") != "?" {
				t.Error("built-in prices are missing, or another upstream's are used")
			}
		})
	}
	if elsewhere.requests() != "" {
		t.Errorf("the redirect was followed: %s", elsewhere.requests())
	}
	elsewhere.Close()
}

// TestPricesUnreachable: a machine without a network has a line in the log, and
// one that does not answer delays nothing.
func TestPricesUnreachable(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	gone := newPriceServer(t, lists("m"))
	gone.Close()
	p, log, end := begin(t, t.TempDir(), backend.UpstreamConfig{Name: "gone", BaseURL: gone.URL + "/v1"})
	if line := log.next(t); !strings.Contains(line, `"level":"info"`) || !strings.Contains(line, "connection refused") {
		t.Errorf("logged %s", line)
	}
	if costs(p, "gone", "m") != "?" {
		t.Error("it has a price")
	}
	end()

	asked := make(chan struct{})
	hangs := newPriceServer(t, func(_ http.ResponseWriter, r *http.Request) { close(asked); <-r.Context().Done() })
	_, log, end = begin(t, t.TempDir(), backend.UpstreamConfig{Name: "hangs", BaseURL: hangs.URL + "/v1"})
	<-asked
	end()
	if log.String() != "" {
		t.Errorf("the end was logged: %s", log)
	}
	hangs.Close()
}

// TestFullNames: a bare name stands for a model that exactly one vendor has, in
// OpenRouter's list and in no other upstream's.
func TestFullNames(t *testing.T) {
	list := func(names ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"data":[{"id":"%s"}]}`, strings.Join(names, `"},{"id":"`))
		}
	}
	router1 := newPriceServer(t, list("openai/gpt-4.1", "a/both", "b/both", "a/twice", "a/twice", "bare", "local/x", "a/b/c", "openrouter/auto"))
	other := newPriceServer(t, list("v/elsewhere", "v/gpt-4.1"))
	p, log, end := begin(t, t.TempDir(), backend.UpstreamConfig{Name: "openrouter", BaseURL: router1.URL + "/v1"}, backend.UpstreamConfig{Name: "other", BaseURL: other.URL + "/v1"})
	defer end()
	log.next(t)
	log.next(t)
	for bare, want := range map[string]string{
		"gpt-4.1": "openai/gpt-4.1", "twice": "a/twice", "b/c": "a/b/c",
		"both": "", "bare": "", "x": "", "elsewhere": "", "auto": "", "gpt-4.l": "", "": "",
	} {
		if got, ok := p.FullName(bare); got != want || ok != (want != "") {
			t.Errorf("%q is %q, %t; want %q", bare, got, ok, want)
		}
	}
}

// TestPricesApplyConfig: a reload that changes an upstream asks the new one, one that
// takes it away ends its list, and what the configuration says goes before.
func TestPricesApplyConfig(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	one, two := newPriceServer(t, lists("one")), newPriceServer(t, lists("two"))
	u := backend.UpstreamConfig{Name: "u", BaseURL: one.URL + "/v1", Key: "a"}
	p, log, end := begin(t, dir, u)
	log.next(t)

	zero := new(config.Price)
	c := &config.Config{Prices: map[string]map[string]config.ModelPrices{"u": {"one": {Prompt: zero, Completion: zero}}}}
	p.ApplyConfig(c, []backend.UpstreamConfig{u})
	if costs(p, "u", "one") != "0" {
		t.Errorf("it costs %s", costs(p, "u", "one"))
	}
	u.Key = "b" // the list is as good as before
	p.ApplyConfig(&config.Config{}, []backend.UpstreamConfig{u})
	if costs(p, "u", "one") != "0.000003" {
		t.Errorf("with another key it costs %s", costs(p, "u", "one"))
	}
	u.BaseURL = two.URL + "/v1"
	p.ApplyConfig(&config.Config{}, []backend.UpstreamConfig{u})
	p.Fetch(t.Context(), noLoops)
	if costs(p, "u", "one") != "?" {
		t.Error("another upstream has the old one's prices")
	}
	log.next(t)
	if costs(p, "u", "two") != "0.000003" || two.requests() != "GET /v1/models Bearer b" {
		t.Errorf("it costs %s, asked %s", costs(p, "u", "two"), two.requests())
	}
	p.ApplyConfig(&config.Config{}, nil)
	if p.Book("u") != nil {
		t.Error("what was taken out has prices")
	}
	p.Wait() // its list has ended, and the others' time goes on
	end()
	if one.requests() != "GET /v1/models Bearer a" {
		t.Errorf("asked %s", one.requests())
	}
	one.Close()
	two.Close()
}

// TestStoredPricesAreDamaged: a file that cannot be read is logged, and replaced.
func TestStoredPricesAreDamaged(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "u.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newPriceServer(t, lists("m"))
	p, log, _ := begin(t, dir, backend.UpstreamConfig{Name: "u", BaseURL: s.URL})
	if line := log.next(t); !strings.Contains(line, "cannot use the stored prices") {
		t.Errorf("logged %s", line)
	}
	log.next(t)
	if costs(p, "u", "m") != "0.000003" {
		t.Error("nothing was read")
	}
}
