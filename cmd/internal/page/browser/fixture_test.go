package browser_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// policy is the Content-Security-Policy of package page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

// fixture serves the page's files, and its API with invented data, so that each view can be shown in each state.
type fixture struct {
	*httptest.Server
	t   testing.TB
	key string // "" = no keys are configured

	mu       sync.Mutex
	sections map[string]any
	epoch    string
	n        int
	readers  map[chan string]bool
	down     bool
	given    []string          // commands, as "name body"
	steps    map[string]string // command -> lines of its answer
	calls    []map[string]any
	lastIDs  []string // of each new stream
	stall    bool     // a chat does not end by itself

	files     []map[string]any // on disk
	filesRead int              // how often they were requested
}

// newFixture starts a fixture with the sections of testdata/state.json.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, epoch: "7f3a", readers: map[chan string]bool{}, steps: map[string]string{}, calls: inventedCalls(), files: inventedFiles()}
	f.sections = invented(t, "state.json")
	mux := http.NewServeMux()
	files := http.StripPrefix("/ui/static/", http.FileServer(http.Dir("../static")))
	mux.Handle("GET /ui/static/", files)
	mux.HandleFunc("GET /ui/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "../static/index.html") })
	mux.HandleFunc("GET /ui/api/session", func(w http.ResponseWriter, r *http.Request) { answer(w, map[string]any{"signed_in": f.signedIn(r)}) })
	mux.HandleFunc("POST /ui/api/session", f.session)
	mux.HandleFunc("DELETE /ui/api/session", f.session)
	mux.HandleFunc("GET /ui/events", f.authenticated(f.events))
	mux.HandleFunc("GET /ui/api/calls", f.authenticated(f.listCalls))
	mux.HandleFunc("GET /ui/api/calls/{id}", f.authenticated(f.oneCall))
	mux.HandleFunc("GET /ui/api/files", f.authenticated(func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.filesRead++
		answer(w, map[string]any{"folder": "/var/lib/llmsup/models", "ctx_size": 8192, "incomplete": "", "files": f.files})
	}))
	mux.HandleFunc("GET /ui/api/usage", f.authenticated(f.usage))
	mux.HandleFunc("POST /ui/api/{command}", f.authenticated(f.command))
	mux.HandleFunc("POST /ui/v1/chat/completions", f.authenticated(f.chat))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.isDown() {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.setDown(true) // ends the streams, which Close waits for
		f.Close()
	})
	return f
}

// newFleetFixture starts a fixture of a box in a fleet: with the section of testdata/fleet.json too.
func newFleetFixture(t testing.TB) *fixture {
	t.Helper()
	f := newFixture(t)
	f.sections["fleet"] = invented(t, "fleet.json")
	return f
}

// invented returns a file of testdata, with the times that it describes.
func invented(t testing.TB, name string) (data map[string]any) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &data); err != nil {
		t.Fatal(err)
	}
	return relative(data, time.Now()).(map[string]any)
}

// relative replaces times such as "ago:5s", and "wave:MEAN:SWING:PERIOD" by an hour of samples.
func relative(value any, now time.Time) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			v[name] = relative(v[name], now)
		}
	case []any:
		for i := range v {
			v[i] = relative(v[i], now)
		}
	case string:
		return relativeText(v, now)
	}
	return value
}

func relativeText(text string, now time.Time) any {
	day := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	kind, rest, _ := strings.Cut(text, ":")
	d, _ := time.ParseDuration(rest)
	switch kind {
	case "ago":
		return now.Add(-d)
	case "in":
		return now.Add(d)
	case "midnight":
		return day
	case "tomorrow":
		return day.AddDate(0, 0, 1)
	case "nextmonth":
		return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	case "wave":
		var mean, swing, period float64
		if _, err := fmt.Sscanf(strings.ReplaceAll(rest, ":", " "), "%g %g %g", &mean, &swing, &period); err != nil {
			panic(err)
		}
		samples := make([]any, 360)
		for i := range samples {
			x := float64(i)
			samples[i] = math.Round(mean + swing*(0.7*math.Sin(x/period*2*math.Pi)+0.3*math.Sin(x/7.3)))
		}
		for i := 130; i < 142; i++ {
			samples[i] = nil // the driver did not answer
		}
		return samples
	}
	return text
}

func (f *fixture) isDown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down
}

// streams is how many pages have an event stream.
func (f *fixture) streams() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.readers)
}

// setDown ends all streams and breaks all connections, until it is taken back.
func (f *fixture) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	if down {
		for reader := range f.readers {
			close(reader)
		}
		clear(f.readers)
	}
}

// restart is a restart of llmsup: another epoch.
func (f *fixture) restart(epoch string) {
	f.setDown(true)
	f.mu.Lock()
	f.epoch, f.n, f.down = epoch, 0, false
	f.mu.Unlock()
}

// section returns a section, to be changed with set.
func (f *fixture) section(name string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	var clone any
	raw, _ := json.Marshal(f.sections[name])
	_ = json.Unmarshal(raw, &clone)
	return clone
}

// set replaces sections and sends them to all pages as one change.
func (f *fixture) set(sections map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.sections, sections)
	f.n++
	f.send("change", sections)
}

// log sends a line to all pages.
func (f *fixture) log(line map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.send("log", line)
}

func (f *fixture) send(kind string, data any) {
	event := f.encode(kind, data)
	for reader := range f.readers {
		reader <- event
	}
}

func (f *fixture) encode(kind string, data any) string {
	raw, err := json.Marshal(data)
	if err != nil {
		f.t.Error(err)
	}
	return fmt.Sprintf("event: %s\nid: %s-%d\ndata: %s\n\n", kind, f.epoch, f.n, raw)
}

func reject(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "param": nil, "code": code}})
}

// signedIn reports whether a request has a session, or needs none.
func (f *fixture) signedIn(r *http.Request) bool {
	cookie, err := r.Cookie("llmsup_session")
	return f.key == "" || err == nil && cookie.Value == "s"
}

func (f *fixture) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !f.signedIn(r) {
			reject(w, http.StatusUnauthorized, "sign_in", "sign in with an API key")
			return
		}
		next(w, r)
	}
}

func (f *fixture) session(w http.ResponseWriter, r *http.Request) {
	cookie := http.Cookie{Name: "llmsup_session", Value: "s", Path: "/ui/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if r.Method == http.MethodDelete {
		cookie.MaxAge = -1
		http.SetCookie(w, &cookie)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var body struct{ Key string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Key != f.key {
		reject(w, http.StatusUnauthorized, "invalid_api_key", "llmsup does not know this key")
		return
	}
	http.SetCookie(w, &cookie)
	w.WriteHeader(http.StatusNoContent)
}

func (f *fixture) events(w http.ResponseWriter, r *http.Request) {
	reader := make(chan string, 4096)
	f.mu.Lock()
	if f.down {
		f.mu.Unlock()
		return
	}
	f.lastIDs = append(f.lastIDs, r.Header.Get("Last-Event-ID"))
	reader <- f.encode("snapshot", f.sections)
	if r.URL.Query().Get("logs") == "1" {
		for _, line := range inventedLog() {
			reader <- f.encode("log", line)
		}
	}
	f.readers[reader] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.readers, reader)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case event, open := <-reader:
			if !open {
				return
			}
			if _, err := io.WriteString(w, event); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// command records a command and answers with its steps.
func (f *fixture) command(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	name := r.PathValue("command")
	f.mu.Lock()
	f.given = append(f.given, name+" "+string(body))
	steps := f.steps[name]
	f.mu.Unlock()
	if steps == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = io.WriteString(w, steps)
}

// commands are those that were given, as "name body".
func (f *fixture) commands() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.given)
}

// chat answers with a stream that counts.
func (f *fixture) chat(w http.ResponseWriter, r *http.Request) {
	var body struct{ Model string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	backend := "qwen2.5-14b"
	if body.Model == "gpt-4o" {
		backend = "openrouter"
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Llmsup-Backend", backend)
	w.Header().Set("X-Request-Id", "req-1")
	for i := range 12 {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" %d\"}}]}\n\n", i+1)
		_ = http.NewResponseController(w).Flush()
	}
	if f.stall {
		<-r.Context().Done()
		return
	}
	_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12,\"total_tokens\":21,\"cost\":0.0000123}}\n\ndata: [DONE]\n\n")
}

func (f *fixture) listCalls(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	f.mu.Lock()
	calls := slices.Clone(f.calls)
	f.mu.Unlock()
	for _, name := range []string{"model", "key", "backend", "reason"} {
		if want := query.Get(name); want != "" {
			calls = slices.DeleteFunc(calls, func(c map[string]any) bool { return c[name] != want })
		}
	}
	start, _ := strconv.Atoi(query.Get("after"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	end, next := len(calls), ""
	if limit > 0 && start+limit < end {
		end = start + limit
		next = strconv.Itoa(end)
	}
	answer(w, map[string]any{"calls": calls[start:end], "next": next})
}

func (f *fixture) oneCall(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c["id"] == r.PathValue("id") {
			call := maps.Clone(c)
			call["attempts"] = []map[string]any{
				{"backend": "qwen2.5-14b", "model": "qwen2.5-14b", "reason": "timeout", "status": 0, "ms": 60002, "cost_usd": 0, "detail": "no answer within 60 s"},
				{"backend": c["backend"], "model": c["backend_model"], "reason": "", "status": c["status"], "ms": c["ms"], "cost_usd": c["cost_usd"], "detail": ""},
			}
			answer(w, call)
			return
		}
	}
	reject(w, http.StatusNotFound, "not_found", "the ledger has no such call")
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
