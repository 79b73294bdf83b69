package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestSentences: on a terminal sentences are wrapped; elsewhere each is one line.
func TestSentences(t *testing.T) {
	name := "a-very-long-server-name-of-40-characters"
	cause := name + ": VRAM needed: 8.0 GiB weights + 1.5 GiB KV cache + 0.5 GiB buffers = 10.0 GiB, and 9.0 GiB free: it would wait for more; held by pid 4711 (python)"
	steps := func(p *page) {
		show := stepPrinter{out: p.out, live: p.display.terminal, width: p.width()}
		for _, step := range []string{control.StepRunning, control.StepWarning, control.StepDrained} {
			if err := show.step(control.Step{Server: name, Step: step, Text: cause}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, tc := range map[string]struct {
		print func(*page)
		lines int
	}{
		"route": {func(p *page) { p.sentence("  ", "%s: %s", name, cause) }, 1},
		"check": {func(p *page) { (&findings{page: p}).fail(errors.New(cause)) }, 1},
		"status": {func(p *page) {
			p.server(control.Server{Name: name, State: "starting", Reason: cause, Model: "/srv/" + cause})
		}, 4},
		"steps": {steps, 3},
	} {
		var pipe, terminal strings.Builder
		tc.print(&page{out: &pipe})
		tc.print(&page{out: &terminal, display: display{terminal: true, width: 80}})
		if n := strings.Count(pipe.String(), "\n"); n != tc.lines || strings.Contains(pipe.String(), "\x1b") {
			t.Errorf("%s: %d lines without a terminal:\n%s", what, n, pipe.String())
		}
		shown := strings.ReplaceAll(terminal.String(), "\r\x1b[K", "\n")
		for line := range strings.Lines(shown) {
			if n := columns(strings.TrimSuffix(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", what, n, line)
			}
		}
		if whole := strings.Join(strings.Fields(shown), " "); !strings.Contains(whole, cause) {
			t.Errorf("%s: cut:\n%s", what, shown)
		}
	}
}

// TestWrap: nothing is lost, and no line is too wide.
func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"one two":                 "one two",
		"one two three":           "one two\n  three",
		"one  two   three":        "one  two\n  three",
		"  one two":               "  one two",
		"abcdefghijkl":            "abcdefghij\n  kl",
		"one abcdefghijkl":        "one\n  abcdefgh\n  ijkl",
		"日本語日本語":                  "日本語日本\n  語",
		"cafe\u0301 cafe\u0301":   "cafe\u0301 cafe\u0301",
		"cafe\u0301 cafe\u0301 x": "cafe\u0301 cafe\u0301\n  x",
	} {
		if got := strings.Join(wrap(text, 10, "  "), "\n"); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
