package access

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRejectedOrigins(t *testing.T) {
	var l RejectedOrigins
	now := time.Now()
	note := func(origin string, want bool) {
		t.Helper()
		if text, logIt := l.Note(origin, now); logIt != want || text != origin {
			t.Errorf("%s is logged: %t, as %s", origin, logIt, text)
		}
	}
	note("https://a.example", true)
	note("https://b.example", true)
	note("https://a.example", false)
	now = now.Add(originInterval - 1)
	note("https://a.example", false)
	now = now.Add(1)
	note("https://a.example", true)
	for i := range maxOrigins - 1 { // a page can have any number of names
		note(fmt.Sprintf("https://a%d.evil.example", i), true)
	}
	note("https://next.evil.example", false)
	if len(l.logged) != maxOrigins {
		t.Errorf("%d origins are kept", len(l.logged))
	}
	now = now.Add(originInterval)
	note("https://next.evil.example", true)
}

func TestOriginText(t *testing.T) {
	const none = "(not an origin)"
	for origin, want := range map[string]string{
		"https://a.example:1": "https://a.example:1", "null": "null", "http://[::1]:3000": "http://[::1]:3000",
		"": none, "sk-or-secret": none, "https://a.example\nlevel=error": none, "https://u:secret@a.example": none, "https://a.example/sk-secret": none, "*": none,
		"https://a\x1b[2J": none, "https://\u202ea": none, "https://" + strings.Repeat("a", 300): none, "https://*.a": none,
	} {
		if got := originText(origin); got != want {
			t.Errorf("%q is logged as %q", origin, got)
		}
	}
}
