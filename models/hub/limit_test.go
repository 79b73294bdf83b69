package hub

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// TestLimit: a client waits five minutes in all because a server asks for it, and says so once for all of
// its connections.
func TestLimit(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	type answer struct {
		after  time.Duration // since the first one
		status int
		header string
	}
	for name, tc := range map[string]struct {
		answers []answer
		err     string // of the last one; the others have none
		said    int
	}{
		"a minute":                       {[]answer{{0, 429, "60"}}, "", 1},
		"eight connections":              {[]answer{{0, 429, "60"}, {0, 429, "60"}, {time.Millisecond, 429, "60"}}, "", 1},
		"again and again":                {[]answer{{0, 429, "60"}, {time.Minute, 429, "60"}, {2 * time.Minute, 503, "180"}}, "", 3},
		"too often":                      {[]answer{{0, 429, "60"}, {time.Minute, 429, "60"}, {2 * time.Minute, 503, "181"}}, "hub limits how often it is asked (503), and asks to wait 3m1s: try again then", 2},
		"it answered between":            {[]answer{{0, 429, "60"}, {4 * time.Minute, 206, ""}, {5 * time.Minute, 429, "60"}}, "", 2},
		"a day":                          {[]answer{{0, 429, "86400"}}, "hub limits how often it is asked (429), and asks to wait 24h0m0s: try again then", 0},
		"a date":                         {[]answer{{0, 429, "Fri, 09 Jan 2026 03:04:05 GMT"}}, "hub limits how often it is asked (429), and asks to wait 168h0m0s: try again then", 0},
		"a day, of an answer that is no": {[]answer{{0, 200, "86400"}}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var said []string
			c := &Client{Notify: func(text string) { said = append(said, text) }}
			for i, a := range tc.answers {
				resp := &http.Response{StatusCode: a.status, Header: http.Header{"Retry-After": {a.header}}, Request: &http.Request{URL: &url.URL{Scheme: "https", Host: "hub", Path: "/secret"}}}
				at := now.Add(a.after)
				err := c.limit(resp, at)
				if last := i == len(tc.answers)-1; err != nil && (!last || err.Error() != tc.err) || err == nil && last && tc.err != "" {
					t.Errorf("answer %d: %v", i, err)
				}
				if wait, ok := asked(resp, at); err == nil && ok {
					c.notifyWait(resp, wait, at)
				}
			}
			if len(said) != tc.said || len(said) > 0 && !strings.HasPrefix(said[0], "hub answered 429; trying again in 1m0s") {
				t.Errorf("%q", said)
			}
		})
	}
}

// TestLimitedDownload: a Retry-After of a day ends a download with one error, after one request for each
// connection; a short one is waited for.
func TestLimitedDownload(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(size)}}})
	var mu sync.Mutex
	wait, requests := "86400", 0
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Host != h.StorageHost() || wait == "" {
			return false
		}
		requests++
		w.Header().Set("Retry-After", wait)
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	c, dir := client(h, ""), t.TempDir()
	begun := time.Now()
	_, err := downloadRef(t, t.Context(), c, "hf:a/b", dir)
	limited, ok := errors.AsType[*LimitedError](err)
	mu.Lock()
	if !ok || !IsTemporary(err) || limited.Until.Before(begun.Add(24*time.Hour)) || requests > defaultConnections {
		t.Errorf("%v after %d requests", err, requests)
	}
	wait, requests = "1", 0
	mu.Unlock()
	said := make(chan string, 100)
	c = client(h, "")
	c.Notify = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		wait = ""
		said <- text
	}
	if _, err := downloadRef(t, t.Context(), c, "hf:a/b", dir); err != nil || len(said) != 1 {
		t.Errorf("%v, %d notices", err, len(said))
	}
}
