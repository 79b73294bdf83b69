package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// pageStream is an event stream of the web page.
type pageStream struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Scanner
}

// openPage opens the event stream with a session's cookie.
func (in *instance) openPage(query, cookie string) *pageStream {
	in.t.Helper()
	req, err := http.NewRequestWithContext(in.t.Context(), http.MethodGet, in.url+"/ui/events"+query, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Cookie", cookie)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		in.t.Fatalf("the event stream: %s", resp.Status)
	}
	s := &pageStream{in.t, resp.Body, bufio.NewScanner(resp.Body)}
	s.in.Buffer(nil, 1<<24)
	return s
}

// until reads events until the data of one satisfies a condition.
func (s *pageStream) until(what string, ok func(data gjson.Result) bool) gjson.Result {
	s.t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { s.body.Close() })
	defer watchdog.Stop()
	for s.in.Scan() {
		if data, isData := strings.CutPrefix(s.in.Text(), "data: "); isData {
			if event := gjson.Parse(data); ok(event) {
				return event
			}
		}
	}
	s.t.Fatalf("the stream ended before %s: %v", what, s.in.Err())
	return gjson.Result{}
}

// awaitEnd reads events until the stream has ended.
func (s *pageStream) awaitEnd() {
	s.t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { s.t.Error("the stream goes on"); s.body.Close() })
	defer watchdog.Stop()
	for s.in.Scan() {
	}
}

// TestPageAccess: with the real llama-server, a page shows calls and a drain as they happen,
// commands need an operator's key, each key sees its own calls, a reload that removes a key
// ends its session, and open pages do not delay a stop.
func TestPageAccess(t *testing.T) {
	t.Parallel()
	admin, adminEntry := newKeyEntry(t, "admin", ", operator: true")
	app, appEntry := newKeyEntry(t, "app", "")
	file := newTestConfig(t, "keys:\n"+adminEntry+appEntry)
	in := launch(t, nil, "--demo", "--config", file.path)
	in.awaitReady()
	own := []string{"Origin", in.url, "Content-Type", "application/json"}
	signIn := func(key string) string {
		r := in.request("POST", "/ui/api/session", `{"key":"`+key+`"}`, own...)
		cookie, _, ok := strings.Cut(r.header.Get("Set-Cookie"), ";")
		if r.status != http.StatusNoContent || !ok {
			t.Fatalf("%+v", r)
		}
		return cookie
	}
	adminCookie, appCookie := signIn(admin), signIn(app)
	command := func(name, body, cookie string) reply {
		return in.request("POST", "/ui/api/"+name, body, append(own, "Cookie", cookie)...)
	}

	ops, theirs := in.openPage("?logs=1", adminCookie), in.openPage("?logs=1", appCookie)
	ops.until("the server is ready", func(e gjson.Result) bool { return e.Get("servers.0.state").String() == "ready" })
	theirs.until("the first sections", func(e gjson.Result) bool { return e.Get("viewer.key").String() == "app" })

	// A call that is made on the page, and one that an application makes.
	const chat = `{"model":"local","max_tokens":20,"messages":[{"role":"user","content":"count"}]}`
	if r := in.request("POST", "/ui/v1/chat/completions", chat, append(own, "Cookie", appCookie)...); r.status != 200 || r.backend() != "demo" {
		t.Fatalf("%+v", r)
	}
	if r := in.request("POST", "/v1/chat/completions", chat, "Authorization", "Bearer "+admin); r.status != 200 {
		t.Fatalf("%+v", r)
	}
	ops.until("both calls count", func(e gjson.Result) bool { return e.Get("today.calls").Int() == 2 })
	theirs.until("the own call counts", func(e gjson.Result) bool { return e.Get("today.calls").Int() == 1 })
	for cookie, want := range map[string]string{adminCookie: "[admin app]", appCookie: "[app]"} {
		r := in.request("GET", "/ui/api/calls", "", "Cookie", cookie)
		var page struct {
			Calls []struct{ ID, Key string }
		}
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, c := range page.Calls {
			keys = append(keys, c.Key)
			if one := in.request("GET", "/ui/api/calls/"+c.ID, "", "Cookie", cookie); gjson.Get(one.body, "key").String() != c.Key {
				t.Errorf("%+v", one)
			}
			if c.Key == "admin" {
				if r := in.request("GET", "/ui/api/calls/"+c.ID, "", "Cookie", appCookie); r.status != 404 {
					t.Errorf("another key's call: %+v", r)
				}
			}
		}
		if got := "[" + strings.Join(keys, " ") + "]"; got != want {
			t.Errorf("calls of %s, want %s", got, want)
		}
		sums := in.request("GET", "/ui/api/usage?by=key", "", "Cookie", cookie)
		if got := gjson.Get(sums.body, "total.calls").Int(); got != int64(len(keys)) {
			t.Errorf("%d calls in the sums: %s", got, sums.body)
		}
	}

	// A drain, which only the operator may ask for.
	if r := command("drain", `{"yes":true}`, appCookie); r.status != 403 || !strings.Contains(r.body, "operator_required") {
		t.Errorf("%+v", r)
	}
	if r := command("drain", `{}`, adminCookie); r.status != 409 || !strings.Contains(r.body, `"code":"no_fallback"`) {
		t.Errorf("%+v", r)
	}
	if r := command("drain", `{"yes":true}`, adminCookie); r.status != 200 || !strings.Contains(r.body, `"step":"drained"`) {
		t.Errorf("%+v", r)
	}
	theirs.until("the drain", func(e gjson.Result) bool { return e.Get("servers.0.state").String() == "drained" })
	ops.until("the log has the command", func(e gjson.Result) bool {
		return strings.Contains(e.Get("text").String(), "a command by the page command=drain") && strings.Contains(e.Get("text").String(), "by=admin")
	})
	if r := command("resume", `{}`, adminCookie); r.status != 200 || !strings.Contains(r.body, `"step":"resumed"`) {
		t.Errorf("%+v", r)
	}

	file.write("keys:\n" + adminEntry)
	if r := command("reload", `{}`, adminCookie); r.status != 200 || !strings.Contains(r.body, "key app: removed") {
		t.Errorf("%+v", r)
	}
	theirs.awaitEnd()
	if r := in.request("GET", "/ui/api/calls", "", "Cookie", appCookie); r.status != 401 {
		t.Errorf("after the key was removed: %+v", r)
	}

	began := time.Now()
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ops.awaitEnd()
	<-in.done
	if took := time.Since(began); took > 20*time.Second { // of 30 s for calls
		t.Errorf("the stop took %s", took)
	}
	if log := in.logged(); strings.Contains(log, admin) || strings.Contains(log, app) || strings.Contains(log, strings.TrimPrefix(adminCookie, "llmsup_session=")) {
		t.Error("the log has a secret")
	}
}
