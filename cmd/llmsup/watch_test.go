package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// scrollback writes earlier output of the shell to the screen.
func scrollback(s *screen) string {
	var lines strings.Builder
	for i := range 40 {
		fmt.Fprintf(&lines, "earlier output %d\n", i)
	}
	_, _ = s.Write([]byte(lines.String()))
	return lines.String()
}

// TestFrame: a frame replaces the one before, and nothing else.
func TestFrame(t *testing.T) {
	long := strings.Repeat("row\n", 50)
	for name, tc := range map[string]struct {
		pages []string
		want  string
	}{
		"the same":        {[]string{"a\nb\n", "a\nc\n"}, "a\nc"},
		"a shorter one":   {[]string{"a\nb\nc\n", "d\n"}, "d"},
		"a longer one":    {[]string{"a\n", "b\nc\n\nd\n"}, "b\nc\n\nd"},
		"shorter lines":   {[]string{"aaaa\n", "b\n"}, "b"},
		"wide lines":      {[]string{strings.Repeat("a", 99) + "\nb\n", strings.Repeat("日", 99) + "\nc\n"}, strings.Repeat("日", 20) + "\nc"},
		"colours":         {[]string{"\x1b[32m" + strings.Repeat("a", 99) + "\x1b[0m\nb\n", "a\n"}, "a"},
		"a tall one":      {[]string{"a\n", long}, strings.Repeat("row\n", 8) + "(42 more lines; make the window taller)"},
		"tall, then not":  {[]string{long, "a\n"}, "a"},
		"tall, and again": {[]string{long, long}, strings.Repeat("row\n", 8) + "(42 more lines; make the window taller)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScreen(t, 41, 10)
			before := scrollback(s)
			var f frame
			for _, page := range tc.pages {
				_, _ = s.Write([]byte(f.redraw(page, s.columns, s.rows)))
			}
			want := strings.ReplaceAll(tc.want, "日", "日 ") // each takes two columns
			if got := strings.ReplaceAll(s.String(), " \n", "\n"); got != before+strings.ReplaceAll(want, " \n", "\n") {
				t.Errorf("%s\nwant\n%s", got, want)
			}
		})
	}
	s := newScreen(t, 41, 10)
	before := scrollback(s)
	var f frame
	_, _ = s.Write([]byte(f.redraw("a\n", 41, 10)))
	_, _ = s.Write([]byte(f.redraw("b\n", 60, 10))) // the window has changed
	_, _ = s.Write([]byte(f.redraw("c\n", 60, 10)))
	if got := s.String(); got != before+"a\nc" {
		t.Errorf("after a change of the window:\n%s", got)
	}
}

// TestWatchOnTerminal: status --watch and usage --watch redraw in place, and keep what the
// terminal showed before.
func TestWatchOnTerminal(t *testing.T) {
	path := filepath.Join(shortDir(t), "c.sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var fetched atomic.Int64
	daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Llmsup-Version", version)
		n := fetched.Add(1)
		if strings.HasSuffix(r.URL.Path, "/usage") {
			fmt.Fprintf(w, `{"total":{"calls":%d},"groups":[{"name":"local"}]}`, n)
			return
		}
		fmt.Fprintf(w, `{"version":"dev","listen":"127.0.0.1:8000","inflight":%d,"servers":[{"name":"demo"},{"name":"other"}]}`, n)
	}))
	_ = daemon.Listener.Close() // its own, which is not needed
	daemon.Listener = socket
	daemon.Start()
	defer daemon.Close()
	for command, page := range map[string]struct{ first, figure string }{
		"status": {"llmsup dev listens on", "%d calls in flight"}, "usage": {"Usage from ", "calls   %d\n"},
	} {
		first := page.first
		t.Run(command, func(t *testing.T) {
			s := newScreen(t, 80, 10)
			before := scrollback(s)
			from := fetched.Load()
			// The third page is drawn before Ctrl-C: drawn after it, it would erase its echo.
			third := func(shown string) bool {
				n := fetched.Load()
				return n > from+2 && strings.Contains(shown, fmt.Sprintf(page.figure, n))
			}
			onTerminal(t, s, third, "llmsup", command, "--watch", "--control-socket", path)
			got := s.String()
			if !strings.HasPrefix(got, before+first) || strings.Count(got, first) != 1 || !strings.HasSuffix(got, "^C") {
				t.Errorf("the terminal shows\n%s", got)
			}
			for line := range strings.Lines(got) {
				if n := columns(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}
