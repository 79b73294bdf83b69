package page

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/router/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeDaemon is a daemon with one server. It implements all that a Handler and its Feed use.
type fakeDaemon struct {
	mu     sync.Mutex
	policy access.Policy
	server control.Server
	log    bytes.Buffer

	commands []string
	refusal  error         // of the commands
	holds    chan struct{} // the commands with steps wait for it; nil = they do not
}

func (d *fakeDaemon) Access() *access.Policy {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.policy.Clone()
}

func (d *fakeDaemon) setKeys(keys ...access.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.policy.Keys = keys
}

func (d *fakeDaemon) set(server control.Server) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.server = server
}

func (d *fakeDaemon) ServeFor(key *access.Key, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Llmsup-Backend", "qwen")
	_, _ = fmt.Fprintf(w, "%s for %s, cookie %q", r.URL.Path, key.KeyName(), r.Header.Get("Cookie"))
}

func (d *fakeDaemon) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return control.Status{Servers: []control.Server{d.server}}
}

// Write implements io.Writer for the log.
func (d *fakeDaemon) Write(line []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(line)
}

func (d *fakeDaemon) logged() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

func (d *fakeDaemon) Models() []control.Model     { return nil }
func (d *fakeDaemon) Changes() []<-chan struct{}  { return nil }
func (d *fakeDaemon) InFlight() []feed.Call       { return nil }
func (d *fakeDaemon) Ended() int64                { return 0 }
func (d *fakeDaemon) LastEnded() []feed.EndedCall { return nil }
func (d *fakeDaemon) Routes(string) []feed.Route  { return nil }
func (d *fakeDaemon) Boxes() control.Boxes        { return control.Boxes{} }

func (d *fakeDaemon) FleetUsage(context.Context, time.Time, time.Time, string) (control.Usage, error) {
	return control.Usage{}, control.ErrNoFleet
}

func (d *fakeDaemon) Usage(context.Context, time.Time, time.Time, string) (control.Usage, error) {
	return control.Usage{}, errors.New("the ledger is disabled")
}

// site is a page that is served to the test.
type site struct {
	*httptest.Server
	t       *testing.T
	daemon  *fakeDaemon
	handler *Handler
}

const (
	operatorKey = "llmsup-operator"
	otherKey    = "llmsup-other"
)

func testKeys() []access.Key {
	return []access.Key{
		{Name: "ops", SHA256: sha256.Sum256([]byte(operatorKey)), Operator: true},
		{Name: "app", SHA256: sha256.Sum256([]byte(otherKey))},
	}
}

func newSite(t *testing.T, keys ...access.Key) *site {
	t.Helper()
	d := &fakeDaemon{policy: access.Policy{Keys: keys, CheckHost: len(keys) == 0}, server: control.Server{Name: "qwen", State: "ready"}}
	f := feed.New(feed.Options{Daemon: d, Traffic: d, Spending: d, Fleet: d})
	h := New(Options{Feed: f, Router: d, Daemon: d, Logs: d, Disk: d, Puller: d, Log: zerolog.New(d)})
	h.Enable(true)
	server := httptest.NewServer(h.Mount(http.NotFoundHandler()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() {
		h.Close()
		server.Client().CloseIdleConnections()
		server.Close()
		cancel()
		<-done
	})
	return &site{server, t, d, h}
}

// answer is an http.Response that the test's end closes.
type answer struct {
	Status     string
	StatusCode int
	Header     http.Header
	Close      bool
	Body       io.ReadCloser
	cookies    []*http.Cookie
}

// request makes a request. headers are names and values; Host is one of them.
func (s *site) request(method, path, body string, headers ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	client := *s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return answer{resp.Status, resp.StatusCode, resp.Header, resp.Close, resp.Body, resp.Cookies()}
}

// own are the headers of a request of the page's own script.
func (s *site) own(more ...string) []string {
	return append([]string{"Origin", s.URL, "Content-Type", "application/json"}, more...)
}

// signIn returns the cookie of a new session.
func (s *site) signIn(key string) string {
	s.t.Helper()
	resp := s.request("POST", "/ui/api/session", `{"key":"`+key+`"}`, s.own()...)
	if resp.StatusCode != http.StatusNoContent || len(resp.cookies) != 1 {
		s.t.Fatalf("sign-in: %s, %v", resp.Status, resp.cookies)
	}
	return cookieName + "=" + resp.cookies[0].Value
}

// code returns the status and, of an error, the code.
func code(t *testing.T, resp answer) (status int, code string) {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Error struct{ Code string }
	}
	_ = json.Unmarshal(raw, &body) // other answers have no code
	return resp.StatusCode, body.Error.Code
}

// event reads the next event of a stream that is no comment.
func event(t *testing.T, in *bufio.Reader) (name, id, data string) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		}
		if line == "" && data != "" {
			return name, id, data
		}
	}
}

func TestFiles(t *testing.T) {
	s := newSite(t, testKeys()...)
	for path, want := range map[string]struct {
		status int
		kind   string
	}{
		"/ui/":                  {200, "text/html; charset=utf-8"},
		"/ui/now":               {200, "text/html; charset=utf-8"},
		"/ui/calls/abc":         {200, "text/html; charset=utf-8"},
		"/ui/static/index.html": {200, "text/html; charset=utf-8"},
		"/ui/static/none.js":    {404, "application/json; charset=utf-8"},
		"/ui/nothing":           {404, "application/json; charset=utf-8"},
		"/ui/calls/":            {302, ""},
		"/ui":                   {302, ""},
		"/v1/models":            {404, "text/plain; charset=utf-8"},
	} {
		resp := s.request("GET", path, "")
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != want.status || want.kind != "" && kind != want.kind {
			t.Errorf("%s: %s, %s", path, resp.Status, kind)
		}
	}
	etag := s.request("GET", "/ui/", "").Header.Get("ETag")
	if resp := s.request("GET", "/ui/", "", "If-None-Match", etag); etag == "" || resp.StatusCode != http.StatusNotModified {
		t.Errorf("ETag %s: %s", etag, resp.Status)
	}
	if resp := s.request("GET", "/", "", "Accept", "text/html,*/*"); resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/ui/" {
		t.Errorf("/: %s", resp.Status)
	}
	if resp := s.request("GET", "/", "", "Accept", "*/*"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("/ for a program: %s", resp.Status)
	}
	for path, want := range map[string]string{"/ui/nothing": "text/html; charset=utf-8", "/ui/now/more": "text/html; charset=utf-8"} {
		if resp := s.request("GET", path, "", "Accept", "text/html,*/*"); resp.StatusCode != http.StatusNotFound || resp.Header.Get("Content-Type") != want {
			t.Errorf("%s for a browser: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
	}
	if resp := s.request("GET", "/ui/calls/", "", "Accept", "text/html"); resp.Header.Get("Location") != "/ui/calls" {
		t.Errorf("/ui/calls/ goes to %q", resp.Header.Get("Location"))
	}
	s.handler.Enable(false)
	if resp := s.request("GET", "/ui/", ""); resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("a page that is off: %s", resp.Status)
	}
}

// TestSecurityHeaders: no other page can show this one (clickjacking), no answer can be
// taken for a script or a page, and no file of another origin is loaded.
func TestSecurityHeaders(t *testing.T) {
	s := newSite(t, testKeys()...)
	for _, path := range []string{"/ui/", "/ui/static/index.html", "/ui/events", "/ui/nothing", "/ui/api/session"} {
		h := s.request("GET", path, "").Header
		for name, want := range map[string]string{
			"Content-Security-Policy": contentPolicy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s: %q", path, name, h.Get(name))
			}
		}
		for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
			if !strings.Contains(h.Get("Content-Security-Policy"), part) {
				t.Errorf("%s: no %s", path, part)
			}
		}
		if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
			t.Errorf("%s: %s", path, h.Get("Content-Security-Policy"))
		}
		if h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other origins may read it", path)
		}
	}
}

// TestForeignPages: another origin's page can neither read nor change anything, whether it
// uses a form or a script, or has rebound its name to this address.
func TestForeignPages(t *testing.T) {
	s := newSite(t)
	host := strings.TrimPrefix(s.URL, "http://")
	_, port, _ := strings.Cut(host, ":")
	const session, events, view = "/ui/api/session", "/ui/static/index.html", "/ui/calls"
	for name, tc := range map[string]struct {
		method, path string
		headers      []string
		status       int
		code         string
	}{
		"its own script reads":      {"GET", events, []string{"Sec-Fetch-Site", "same-origin"}, 200, ""},
		"its own script changes":    {"POST", session, s.own(), 204, ""},
		"without Origin, marked":    {"POST", session, []string{"Sec-Fetch-Site", "same-origin", "Content-Type", "application/json"}, 204, ""},
		"the address bar":           {"GET", view, []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"}, 200, ""},
		"a link elsewhere":          {"GET", view, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200, ""},
		"a program reads":           {"GET", events, nil, 200, ""},
		"by localhost":              {"POST", session, []string{"Host", "localhost:" + port, "Origin", "http://localhost:" + port, "Content-Type", "application/json"}, 204, ""},
		"behind a proxy with TLS":   {"POST", session, []string{"Origin", "https://" + host, "Content-Type", "application/json"}, 204, ""},
		"fetch changes":             {"POST", session, []string{"Origin", "https://evil.example", "Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"fetch reads":               {"GET", events, []string{"Origin", "https://evil.example"}, 403, "origin_not_allowed"},
		"two Origins":               {"POST", session, s.own("Origin", "https://evil.example"), 403, "origin_not_allowed"},
		"a sandbox":                 {"POST", session, []string{"Origin", "null", "Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"another port":              {"POST", session, []string{"Origin", "http://127.0.0.1:1", "Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"another scheme":            {"POST", session, []string{"Origin", "ftp://" + host, "Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"a form":                    {"POST", session, []string{"Origin", "https://evil.example", "Content-Type", "application/x-www-form-urlencoded"}, 403, "origin_not_allowed"},
		"no Origin":                 {"POST", session, []string{"Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"no Origin, DELETE":         {"DELETE", session, nil, 403, "origin_not_allowed"},
		"marked as foreign":         {"POST", session, []string{"Sec-Fetch-Site", "cross-site", "Content-Type", "application/json"}, 403, "origin_not_allowed"},
		"another port of the site":  {"GET", events, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, 403, "origin_not_allowed"},
		"a script element":          {"GET", events, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403, "origin_not_allowed"},
		"a preflight":               {"OPTIONS", session, []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST"}, 403, "origin_not_allowed"},
		"its own form":              {"POST", session, []string{"Origin", s.URL, "Content-Type", "application/x-www-form-urlencoded"}, 415, "invalid_body"},
		"its own text":              {"POST", session, []string{"Origin", s.URL, "Content-Type", "text/plain"}, 415, "invalid_body"},
		"its own, no content type":  {"POST", session, []string{"Origin", s.URL}, 415, "invalid_body"},
		"rebound, reads":            {"GET", events, []string{"Host", "evil.example:" + port}, 403, "host_not_allowed"},
		"rebound, changes":          {"POST", session, []string{"Host", "evil.example:" + port, "Origin", "http://evil.example:" + port, "Content-Type", "application/json"}, 403, "host_not_allowed"},
		"rebound, opens the page":   {"GET", view, []string{"Host", "evil.example"}, 403, "host_not_allowed"},
		"rebound, without its port": {"GET", events, []string{"Host", "evil.example", "Sec-Fetch-Site", "same-origin"}, 403, "host_not_allowed"},
	} {
		body := ""
		if tc.method == "POST" {
			body = "{}"
		}
		resp := s.request(tc.method, tc.path, body, tc.headers...)
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: another origin may read the answer", name)
		}
		if status, got := code(t, resp); status != tc.status || got != tc.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, got, tc.status, tc.code)
		}
	}
}

// TestAllowedOrigins: allowed_origins are for calls, not for the page, and so are
// allowed_hosts that allow any, unless the page needs a key.
func TestAllowedOrigins(t *testing.T) {
	s := newSite(t)
	s.daemon.policy.Origins = []string{"*"}
	s.daemon.policy.CheckHost, s.daemon.policy.Hosts = false, []string{"*", "llm.example"}
	for host, want := range map[string]int{"evil.example": 403, "llm.example": 200, "localhost": 200} {
		if status, _ := code(t, s.request("GET", "/ui/", "", "Host", host)); status != want {
			t.Errorf("%s: %d", host, status)
		}
	}
	s.daemon.setKeys(testKeys()...)
	if status, _ := code(t, s.request("GET", "/ui/", "", "Host", "proxy.example")); status != 200 {
		t.Errorf("with keys: %d", status)
	}
	if status, _ := code(t, s.request("POST", "/ui/api/session", "{}", "Origin", "https://app.example", "Content-Type", "application/json")); status != 403 {
		t.Errorf("%d", status)
	}
}

func TestSignIn(t *testing.T) {
	s := newSite(t, testKeys()...)
	if status, got := code(t, s.request("GET", "/ui/events", "")); status != 401 || got != codeSignIn {
		t.Errorf("without a session: %d %s", status, got)
	}
	resp := s.request("POST", "/ui/api/session", `{"key":"`+operatorKey+`"}`, s.own()...)
	cookies := resp.cookies
	if resp.StatusCode != http.StatusNoContent || len(cookies) != 1 {
		t.Fatalf("%s, %v", resp.Status, cookies)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/ui/" || c.Secure || len(c.Value) < 26 || strings.Contains(c.Value, operatorKey) {
		t.Errorf("%+v", c)
	}
	secure := s.request("POST", "/ui/api/session", `{"key":"`+operatorKey+`"}`, "Origin", strings.Replace(s.URL, "http:", "https:", 1), "Content-Type", "application/json")
	if c := secure.cookies; len(c) != 1 || !c[0].Secure {
		t.Errorf("behind TLS: %+v", c)
	}
	in := cookieName + "=" + cookies[0].Value
	events := s.request("GET", "/ui/events", "", "Cookie", in)
	if events.StatusCode != 200 {
		t.Errorf("with a session: %s", events.Status)
	}
	events.Body.Close()
	for name, cookie := range map[string]string{"another value": cookieName + "=x", "the key": cookieName + "=" + operatorKey} {
		if status, _ := code(t, s.request("GET", "/ui/events", "", "Cookie", cookie)); status != 401 {
			t.Errorf("%s: %d", name, status)
		}
	}
	if resp := s.request("GET", "/ui/events", "", "X-Api-Key", operatorKey); resp.StatusCode != 401 { // only the cookie counts
		t.Errorf("by header: %s", resp.Status)
	}
	if resp := s.request("DELETE", "/ui/api/session", "", s.own("Cookie", in)...); resp.StatusCode != 204 || resp.cookies[0].MaxAge != -1 {
		t.Errorf("sign-out: %s %v", resp.Status, resp.cookies)
	}
	if status, _ := code(t, s.request("GET", "/ui/events", "", "Cookie", in)); status != 401 {
		t.Errorf("after the sign-out: %d", status)
	}
	if log := s.daemon.logged(); strings.Contains(log, operatorKey) || strings.Contains(log, cookies[0].Value) || !strings.Contains(log, `"key":"ops"`) {
		t.Errorf("%s", log)
	}
}

// TestSessionState: a browser can ask whether it is signed in, and gets no error for an answer.
func TestSessionState(t *testing.T) {
	s := newSite(t, testKeys()...)
	open := newSite(t)
	for name, tc := range map[string]struct {
		resp answer
		want string
	}{
		"signed out":   {s.request("GET", "/ui/api/session", ""), `{"signed_in":false}`},
		"signed in":    {s.request("GET", "/ui/api/session", "", "Cookie", s.signIn(otherKey)), `{"signed_in":true}`},
		"without keys": {open.request("GET", "/ui/api/session", ""), `{"signed_in":true}`},
	} {
		raw, err := io.ReadAll(tc.resp.Body)
		if err != nil || tc.resp.StatusCode != 200 || strings.TrimSpace(string(raw)) != tc.want {
			t.Errorf("%s: %v %s %s", name, err, tc.resp.Status, raw)
		}
	}
}

func TestWrongKeys(t *testing.T) {
	s := newSite(t, testKeys()...)
	for range maxFailures {
		if status, got := code(t, s.request("POST", "/ui/api/session", `{"key":"guess"}`, s.own()...)); status != 401 || got != "invalid_api_key" {
			t.Fatalf("%d %s", status, got)
		}
	}
	resp := s.request("POST", "/ui/api/session", `{"key":"guess"}`, s.own()...)
	if status, got := code(t, resp); status != 429 || got != "too_many_attempts" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, got)
	}
	if got := strings.Count(s.daemon.logged(), "sign-in to the page failed"); got != maxFailures {
		t.Errorf("the log has %d wrong keys, want %d", got, maxFailures)
	}
	if strings.Contains(s.daemon.logged(), "guess") {
		t.Error("the log has a key that was tried")
	}
	s.signIn(operatorKey) // others may be behind the same proxy
	f := failures{of: map[string]attempts{}}
	now := time.Now()
	for range maxFailures {
		f.add("a", now)
	}
	if f.wait("a", now) == 0 || f.wait("b", now) != 0 || f.wait("a", now.Add(failureWindow)) != 0 {
		t.Error("the limit is not one of an address and a minute")
	}
}

func TestSessionsExpire(t *testing.T) {
	keys := testKeys()
	s := sessions{open: map[[32]byte]*session{}}
	p := &access.Policy{Keys: keys}
	request := func(token string) *http.Request {
		r := httptest.NewRequest("GET", "/ui/events", nil)
		r.AddCookie(&http.Cookie{Name: cookieName, Value: token})
		return r
	}
	for name, tc := range map[string]struct {
		created, used time.Duration // ago
		policy        *access.Policy
		want          bool
	}{
		"used":           {time.Hour, time.Hour, p, true},
		"idle":           {13 * time.Hour, 13 * time.Hour, p, false},
		"old":            {8 * 24 * time.Hour, time.Minute, p, false},
		"key removed":    {time.Hour, time.Hour, &access.Policy{Keys: keys[1:]}, false},
		"key replaced":   {time.Hour, time.Hour, &access.Policy{Keys: []access.Key{{Name: "ops", Operator: true}}}, false},
		"all keys other": {time.Hour, time.Hour, &access.Policy{}, false},
	} {
		token := s.begin(&keys[0], time.Now())
		id := sha256.Sum256([]byte(token))
		s.open[id].created, s.open[id].used = time.Now().Add(-tc.created), time.Now().Add(-tc.used)
		if key := s.key(request(token), tc.policy); (key != nil) != tc.want {
			t.Errorf("%s: %v", name, key)
		}
		if _, kept := s.open[id]; kept != tc.want {
			t.Errorf("%s: kept %t", name, kept)
		}
	}
	for range maxSessions {
		s.begin(&keys[1], time.Now())
	}
	if len(s.open) != maxSessions {
		t.Errorf("%d sessions", len(s.open))
	}
}

// TestEvents: a viewer gets its sections, and the stream ends when llmsup stops or the
// viewer's rights change.
func TestEvents(t *testing.T) {
	for name, end := range map[string]func(*site){
		"stop":             func(s *site) { s.handler.Close() },
		"key removed":      func(s *site) { s.daemon.setKeys(testKeys()[1:]...) },
		"no operator":      func(s *site) { k := testKeys(); k[0].Operator = false; s.daemon.setKeys(k...) },
		"all keys removed": func(s *site) { s.daemon.setKeys() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, testKeys()...)
			resp := s.request("GET", "/ui/events", "", "Cookie", s.signIn(operatorKey))
			if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" || !resp.Close {
				t.Fatalf("%s, %s, close %t", resp.Status, kind, resp.Close)
			}
			in := bufio.NewReader(resp.Body)
			kind, id, data := event(t, in)
			if kind != "snapshot" || id == "" || !strings.Contains(data, `"viewer":{"key":"ops","operator":true,"keys":true,"commands":true,"why":""}`) || !strings.Contains(data, `"qwen"`) {
				t.Errorf("%s %s %s", kind, id, data)
			}
			end(s)
			s.daemon.set(control.Server{Name: "hidden"})                         // what it may see no more
			late := time.AfterFunc(10*time.Second, func() { resp.Body.Close() }) // a stream that does not end fails the read
			defer late.Stop()
			rest, err := io.ReadAll(in)
			if err != nil || strings.Contains(string(rest), "hidden") {
				t.Errorf("%v: %s", err, rest)
			}
		})
	}
}

// TestStreams: one key cannot take the streams of all others.
func TestStreams(t *testing.T) {
	keys := testKeys()
	ops, app, other := viewer{key: &keys[0]}, viewer{key: &keys[1]}, viewer{key: &access.Key{Name: "other"}}
	ops.Operator = true
	var s streams
	for range maxStreamsOfKey {
		if limit := s.begin(app); limit != 0 {
			t.Fatalf("limit %d too early", limit)
		}
	}
	if limit := s.begin(app); limit != maxStreamsOfKey {
		t.Errorf("one more of the same key: %d", limit)
	}
	if limit := s.begin(other); limit != 0 {
		t.Errorf("another key: %d", limit)
	}
	s.end(app)
	if limit := s.begin(app); limit != 0 {
		t.Errorf("after one has ended: %d", limit)
	}
	for range maxStreams - maxStreamsOfKey - 1 {
		if limit := s.begin(ops); limit != 0 {
			t.Fatalf("an operator: %d", limit)
		}
	}
	if limit := s.begin(ops); limit != maxStreams {
		t.Errorf("one more than all: %d", limit)
	}
	for range maxStreams - maxStreamsOfKey - 1 {
		s.end(ops)
	}
	for range maxStreamsOfKey {
		s.end(app)
	}
	s.end(other)
	if s.n != 0 || len(s.ofKey) != 0 {
		t.Errorf("all have ended: %d, %v", s.n, s.ofKey)
	}
}

// TestEventsResume: a page that connects again gets what has changed.
func TestEventsResume(t *testing.T) {
	s := newSite(t)
	first := s.request("GET", "/ui/events", "")
	_, id, _ := event(t, bufio.NewReader(first.Body))
	first.Body.Close()
	again := s.request("GET", "/ui/events", "", "Last-Event-ID", id)
	if kind, _, data := event(t, bufio.NewReader(again.Body)); kind != "change" || !strings.HasPrefix(data, `{"viewer":{`) || strings.Contains(data, "servers") {
		t.Errorf("%s %s", kind, data)
	}
}

// TestViewer: who may do what, by keys and address.
func TestViewer(t *testing.T) {
	for name, tc := range map[string]struct {
		address  string
		headers  []string
		commands bool
	}{
		"this machine":            {"127.0.0.1:5000", nil, true},
		"this machine, IPv6":      {"[::1]:5000", nil, true},
		"this machine, mapped":    {"[::ffff:127.0.0.1]:5000", nil, true},
		"another machine":         {"192.0.2.7:5000", nil, false},
		"a proxy on this machine": {"127.0.0.1:5000", []string{"X-Forwarded-For", "192.0.2.7"}, false},
		"a proxy, RFC 7239":       {"127.0.0.1:5000", []string{"Forwarded", "for=192.0.2.7"}, false},
		"no address":              {"", nil, false},
	} {
		h := New(Options{Router: &fakeDaemon{}, Daemon: &fakeDaemon{}})
		r := httptest.NewRequest("GET", "/ui/events", nil)
		r.RemoteAddr = tc.address
		for i := 0; i < len(tc.headers); i += 2 {
			r.Header.Set(tc.headers[i], tc.headers[i+1])
		}
		v, ok := h.identify(r)
		if !ok || v.commands != tc.commands || v.Operator != tc.commands || (v.why == "") != tc.commands {
			t.Errorf("%s: %+v", name, v)
		}
		awaits := New(Options{Router: &fakeDaemon{policy: access.Policy{AwaitsKeys: true}}, Daemon: &fakeDaemon{}})
		if _, ok := awaits.identify(r); ok != tc.commands {
			t.Errorf("%s, while keys are awaited: %t", name, ok)
		}
	}
	s := newSite(t, testKeys()...)
	resp := s.request("GET", "/ui/events", "", "Cookie", s.signIn(otherKey))
	if _, _, data := event(t, bufio.NewReader(resp.Body)); !strings.Contains(data, `"viewer":{"key":"app","operator":false,"keys":true,"commands":false,"why":"the key app`) {
		t.Errorf("%s", data)
	}
}

// TestHostileNames: what a name or an error text contains reaches a page as JSON only.
func TestHostileNames(t *testing.T) {
	const script = `<script>alert(1)</script>`
	s := newSite(t)
	s.daemon.set(control.Server{Name: script, State: "ready", Reason: script + "\n\nevent: snapshot\ndata: {}"})
	resp := s.request("GET", "/ui/events", "")
	_, _, data := event(t, bufio.NewReader(resp.Body))
	if strings.Contains(data, "<script") || !json.Valid([]byte(data)) || !strings.Contains(data, `\u003cscript\u003e`) {
		t.Errorf("%s", data)
	}
	bad := s.request("GET", "/ui/"+"%3Cscript%3Ealert(1)%3C%2Fscript%3E", "")
	raw, err := io.ReadAll(bad.Body)
	if err != nil || bad.StatusCode != 404 || bad.Header.Get("Content-Type") != "application/json; charset=utf-8" || strings.Contains(string(raw), "<script") {
		t.Errorf("%v %s %s", err, bad.Status, raw)
	}
}
