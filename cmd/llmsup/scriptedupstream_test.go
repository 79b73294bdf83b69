package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// scriptedUpstream is an upstream that records the calls it gets, and answers the nth
// with the nth answer of its script. It answers further calls with 418.
type scriptedUpstream struct {
	*httptest.Server
	script []scriptedAnswer

	mu    sync.Mutex
	calls []scriptedCall
}

type scriptedAnswer struct {
	status int // 0 = 200
	header map[string]string
	body   string // of a stream, its events
}

type scriptedCall struct {
	path string
	body string
}

func newScriptedUpstream(t *testing.T, script ...scriptedAnswer) *scriptedUpstream {
	t.Helper()
	u := &scriptedUpstream{script: script}
	u.Server = httptest.NewServer(http.HandlerFunc(u.answer))
	t.Cleanup(u.Close)
	return u
}

func (u *scriptedUpstream) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // it has no list of models
		http.NotFound(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	n := len(u.calls)
	u.calls = append(u.calls, scriptedCall{r.URL.Path, string(body)})
	u.mu.Unlock()
	if n >= len(u.script) {
		http.Error(w, "the script has ended", http.StatusTeapot)
		return
	}
	answer := u.script[n]
	w.Header().Set("Content-Type", "application/json")
	for name, value := range answer.header {
		w.Header().Set(name, value)
	}
	if answer.status != 0 {
		w.WriteHeader(answer.status)
	}
	_, _ = io.WriteString(w, answer.body)
}

// received returns the calls so far.
func (u *scriptedUpstream) received() []scriptedCall {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]scriptedCall{}, u.calls...)
}
