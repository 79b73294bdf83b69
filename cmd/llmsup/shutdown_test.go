package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestShutdown: after SIGTERM running calls have shutdown_grace to end. Calls that take
// longer end with an error, and llmsup exits with 0. No process is left.
func TestShutdown(t *testing.T) {
	for name, tc := range map[string]struct {
		grace   string
		tokens  int
		signals int
		whole   bool
		most    time.Duration
	}{
		"calls end in time":   {"10m", 40, 1, true, time.Minute},
		"calls take too long": {"500ms", 4000, 1, false, 25 * time.Second},
		"no grace":            {"0s", 4000, 1, false, 25 * time.Second},
		"a second signal":     {"10m", 4000, 2, false, 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			within(t, "the stop", func() (took, most time.Duration) {
				file := newTestConfig(t, fmt.Sprintf(`
shutdown_grace: %s
servers:
  slow: {model: %s, ctx_size: 32768}
routes:
  local/slow: {primary: slow}
`, tc.grace, demotest.Slow(t)))
				in := launch(t, nil, "--config", file.path)
				pid := in.awaitReady().PID
				resp, err := http.Post(in.url+"/v1/chat/completions", "application/json", strings.NewReader(fmt.Sprintf(
					`{"model":"local/slow","stream":true,"max_tokens":%d,"messages":[{"role":"user","content":"count"}]}`, tc.tokens)))
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				began := time.Now()
				for i := range tc.signals {
					if i > 0 { // after the first signal was handled
						in.await("stopping", func(control.Server) bool {
							return strings.Contains(in.logged(), "stopping; send the signal again to stop at once")
						})
					}
					if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
						t.Fatal(err)
					}
				}
				body, readErr := io.ReadAll(resp.Body)
				if !eventually(testTimeout, in.ended) {
					t.Fatal("llmsup still runs")
				}
				took = time.Since(began)
				if in.err != nil && tc.signals == 1 {
					t.Errorf("it ended with %v", in.err)
				}
				var text strings.Builder
				for line := range strings.Lines(string(body)) {
					if data, ok := strings.CutPrefix(line, "data: "); ok {
						text.WriteString(gjson.Get(data, "choices.0.delta.content").Str)
					}
				}
				ends := strings.Count(string(body), "data: [DONE]")
				if tc.whole && (text.String() != countFrom(1, tc.tokens) || ends != 1 || readErr != nil) {
					t.Errorf("%v, %d ends: %s", readErr, ends, text.String())
				}
				if !tc.whole && (ends != 0 || readErr == nil && !strings.Contains(string(body), `"error"`)) {
					t.Errorf("a call that was cut off ends as if it were whole: %v, %d ends", readErr, ends)
				}
				if isRunning(pid) {
					t.Error("llama-server is left")
				}
				if strings.Count(in.logged(), `"message":"call"`) != 1 {
					t.Error("the call is not in the log")
				}
				return took, tc.most
			})
		})
	}
}
