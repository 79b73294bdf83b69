package router

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
)

// loopNode is a router at an address that its own configuration may name.
type loopNode struct {
	*fixture
	*httptest.Server
	mu       sync.Mutex
	received []string // method, path and keys of what it was sent
}

// newLoopNodes makes two routers that know each other's address, and their own.
func newLoopNodes(t *testing.T, edit func(name string, own, other string, c *plan.Config, routes map[string]models.Route)) (a, b *loopNode) {
	t.Helper()
	a, b = &loopNode{}, &loopNode{}
	for _, x := range []*loopNode{a, b} {
		x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			x.mu.Lock()
			x.received = append(x.received, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")))
			x.mu.Unlock()
			x.router.ServeHTTP(w, r)
		}))
		t.Cleanup(x.Close)
	}
	for name, x := range map[string]*loopNode{"a": a, "b": b} {
		other := map[string]*loopNode{"a": b, "b": a}[name]
		f := newFixture(t, answers, answers, func(c *plan.Config, routes map[string]models.Route) { edit(name, x.URL, other.URL, c, routes) })
		f.url = x.URL // where calls are counted
		x.fixture = f
	}
	return a, b
}

func (x *loopNode) requests() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.received)
}

// TestLoopToSelf: a call that returns is answered at once, and after FindLoops no call is
// sent to an upstream that is the router itself.
func TestLoopToSelf(t *testing.T) {
	a, _ := newLoopNodes(t, func(_, own, _ string, c *plan.Config, routes map[string]models.Route) {
		c.Access.Keys = []access.Key{{Name: "full", SHA256: sha256.Sum256([]byte(fullKey)), Operator: true}}
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "self", BaseURL: own + "/v1", Key: fullKey})
		routes["round"] = models.Route{Primary: "self", Timeout: time.Minute}
		routes["saved"] = models.Route{Primary: "self", Fallback: "openrouter", Timeout: time.Minute}
		routes["by-url"] = models.Route{Primary: own, Timeout: time.Minute}
	})
	ask := func(model string) reply {
		return a.post("/v1/chat/completions", `{"model":"`+model+`","messages":[]}`, "X-Api-Key", fullKey)
	}
	r := ask("round")
	if r.status != http.StatusLoopDetected || errorCode(r) != "loop_detected" || r.header.Get("X-Should-Retry") != "false" || !strings.Contains(r.body, "base_url") {
		t.Errorf("%d %v %s", r.status, r.header, r.body)
	}
	if n := len(a.requests()); n != 2 {
		t.Errorf("%d requests: %q", n, a.requests())
	}
	if r := ask("saved"); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("with a fallback: %d %s", r.status, r.body)
	}
	if r := a.send("GET", "/metrics", "", "X-Api-Key", fullKey); !strings.Contains(r.body, `llmsup_turned_away_total{code="loop_detected"} 2`) {
		t.Errorf("they are not counted: %s", r.body)
	}
	if !strings.Contains(a.log.String(), `"code":"loop_detected"`) {
		t.Errorf("not logged: %s", a.log)
	}

	before := len(a.requests())
	a.router.FindLoops(t.Context())
	if got := a.requests()[before:]; !slices.Equal(got, []string{"GET /v1/models", "GET /v1/models"}) { // of the upstream and of the URL, without a key
		t.Errorf("asked %q", got)
	}
	if log := a.log.String(); strings.Count(log, `"level":"error"`) != 2 || !strings.Contains(log, `"upstream":"self"`) || !strings.Contains(log, "change its base_url in llmsup.yaml") {
		t.Errorf("log: %s", log)
	}
	before = len(a.requests())
	for model, want := range map[string]int{"round": 503, "by-url": 503, "saved": 200} {
		if r := ask(model); r.status != want || want == 503 && (errorCode(r) != "failed" || !strings.Contains(r.body, "is this llmsup itself")) {
			t.Errorf("%s: %d %s", model, r.status, r.body)
		}
	}
	if got := a.requests()[before:]; len(got) != 3 {
		t.Errorf("calls were sent round: %q", got)
	}
	for _, u := range a.router.Upstreams() {
		if itself := u.Name != "openrouter"; itself != strings.Contains(u.Reason, "is this llmsup itself") {
			t.Errorf("%+v", u)
		}
	}
	if r := a.send("GET", "/health", "", "X-Api-Key", fullKey); r.status != 200 || !strings.Contains(r.body, `"status":"partial"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestLoopBetweenTwo: two llmsups that send a model's calls to each other.
func TestLoopBetweenTwo(t *testing.T) {
	a, b := newLoopNodes(t, func(name, _, other string, c *plan.Config, routes map[string]models.Route) {
		c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "neighbour", BaseURL: other})
		routes["round"] = models.Route{Primary: "neighbour", Timeout: time.Minute}
		saved := models.Route{Primary: "neighbour", Timeout: time.Minute}
		if name == "b" {
			saved.Fallback = "openrouter"
		}
		routes["saved"] = saved
	})
	a.router.FindLoops(t.Context())
	if n := len(b.requests()); n != 1 || strings.Contains(a.log.String(), "itself") {
		t.Errorf("%d requests\n%s", n, a.log)
	}
	for model, want := range map[string]int{"round": http.StatusLoopDetected, "saved": 200} {
		ofA, ofB := len(a.requests()), len(b.requests())
		r := a.post("/v1/chat/completions", `{"model":"`+model+`","messages":[]}`)
		if r.status != want {
			t.Errorf("%s: %d %s", model, r.status, r.body)
		}
		if a, b := len(a.requests())-ofA, len(b.requests())-ofB; a != 2 || b != 1 {
			t.Errorf("%s: %d requests to a and %d to b", model, a, b)
		}
	}
	if got := b.cloud.requests(); len(got) != 1 {
		t.Errorf("the fallback was asked %d times", len(got))
	}
}

// TestVia: the names of all llmsups on a call's way are passed on, and nothing else.
func TestVia(t *testing.T) {
	b := newFixture(t, answers, answers)
	other, another := backend.ViaPrefix+strings.Repeat("A", 26), backend.ViaPrefix+strings.Repeat("7", 26)
	for sent, want := range map[string][]string{
		"":               nil,
		"1.1 corp-proxy": nil,
		other:            {other},
		"1.0 x," + other + ", 1.1 y ,  " + another: {other, another},
		backend.ViaPrefix + "secret of a company":  nil,
	} {
		if r := b.post("/v1/chat/completions", `{"model":"gpt-4o"}`, "Via", sent); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		calls := b.cloud.requests()
		got := calls[len(calls)-1].header["Via"]
		if len(got) == 0 || got[len(got)-1] != b.router.routing.Load().Via || !slices.Equal(got[:len(got)-1], want) {
			t.Errorf("%q became %q", sent, got)
		}
	}
	if r := b.post("/v1/chat/completions", `{"model":"local/qwen"}`); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for _, p := range b.local.requests() {
		if p.header["Via"] != nil {
			t.Errorf("llama-server got %q", p.header["Via"])
		}
	}
}

// TestFindLoops: only the router's own answer says that an upstream is the router,
// and a later one takes it back.
func TestFindLoops(t *testing.T) {
	a, _ := newLoopNodes(t, func(_, own, _ string, c *plan.Config, _ map[string]models.Route) {
		c.Upstreams[0].BaseURL = own
	})
	b := newFixture(t, answers, answers)
	back := b.router.routing.Load().Backends["openrouter"].(*backend.Upstream)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		itself bool
	}{
		"a loop of others": {status(508, `{}`), false},
		"another's name":   {status(508, `{}`, "Via", backend.ViaPrefix+strings.Repeat("A", 26)), false},
		"it passed it on":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, a.URL, http.StatusFound) }, false},
		"by way of a proxy": {func(w http.ResponseWriter, r *http.Request) {
			status(508, `{}`, "Via", "1.1 nginx, "+r.Header.Get("Via"))(w, r)
		}, true},
		"a list": {status(200, `{"data":[]}`), false},
	} {
		before := status(200, `{"data":[]}`)
		if !tc.itself {
			before = func(w http.ResponseWriter, r *http.Request) {
				status(508, `{}`, "Via", r.Header.Get("Via"))(w, r)
			}
		}
		for _, answer := range []http.HandlerFunc{before, tc.answer} {
			b.cloud.mu.Lock()
			b.cloud.handler = answer
			b.cloud.mu.Unlock()
			b.router.FindLoops(t.Context())
		}
		if back.IsLoop() != tc.itself {
			t.Errorf("%s: itself is %t", name, !tc.itself)
		}
	}
	for _, call := range b.cloud.requests() {
		if call.path != "/api/v1/models" || call.header.Get("Authorization") != "" {
			t.Errorf("it was asked at %s with %q", call.path, call.header.Get("Authorization"))
		}
	}
	if len(a.requests()) != 0 {
		t.Error("a redirect was followed")
	}

	// A reload that changes the upstream clears the result, and one that hangs is not waited for.
	a.router.FindLoops(t.Context())
	if r := a.post("/v1/chat/completions", `{"model":"gpt-4o"}`); r.status != 503 {
		t.Errorf("%d %s", r.status, r.body)
	}
	asked := make(chan struct{})
	hung := newFakeBackend(t, func(w http.ResponseWriter, r *http.Request) { close(asked); hangs(w, r) })
	cfg := plan.Config{
		Table: a.router.routing.Load().Table, Locals: map[string]backend.Local{"qwen": a.state}, Bodies: request.Limits{Bytes: 1 << 20},
		Upstreams: []backend.UpstreamConfig{{Name: "openrouter", BaseURL: hung.URL}},
	}
	if err := a.router.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.router.FindLoops(ctx); close(done) }()
	<-asked
	cancel()
	<-done
	if u := a.router.Upstreams(); u[0].Reason != "" {
		t.Errorf("%+v", u)
	}
}
