package main

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestResumedStream: llama-server is killed in the middle of streams, and the clients get
// the complete text, without a lost or repeated token.
func TestResumedStream(t *testing.T) {
	t.Parallel()
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, ctx_size: 32768}
  spare: {model: %s, ctx_size: 32768}
routes:
  local/box: {primary: box, fallback: spare, resume: true}
`, demotest.Slow(t), demoModel(t)))
	in := launch(t, nil, "--config", file.path)
	box := in.awaitServer(0, "ready", isReady)
	in.awaitServer(1, "ready", isReady)
	const tokens = 2000 // box takes over 40 s for them
	// Two of each dialect: where their text stands, and what has to stand in them once.
	dialects := []struct {
		path, text string
		once       []string
	}{
		{"/v1/chat/completions", "choices.0.delta.content", []string{
			"[DONE]", `"finish_reason":"length"`, fmt.Sprintf(`"completion_tokens":%d`, tokens), ": resumed by spare",
		}},
		{"/v1/messages", "delta.text", []string{
			`"type":"message_start"`, `"type":"content_block_stop"`, `"stop_reason":"max_tokens"`, fmt.Sprintf(`"output_tokens":%d`, tokens), `"type":"message_stop"`, ": resumed by spare",
		}},
	}
	type outcome struct {
		text string
		body string
		err  error
		once []string
	}
	begun, done := make(chan struct{}, 4), make(chan outcome, 4)
	for i := range 4 {
		d := dialects[i%2]
		go func() {
			resp, err := http.Post(in.url+d.path, "application/json", strings.NewReader(fmt.Sprintf(
				`{"model":"local/box","stream":true,"max_tokens":%d,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"count"}]}`, tokens)))
			if err != nil {
				begun <- struct{}{}
				done <- outcome{err: err}
				return
			}
			defer resp.Body.Close()
			o := outcome{once: d.once}
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				o.body += lines.Text() + "\n"
				before := strings.Count(o.text, " ")
				o.text += gjson.Get(strings.TrimPrefix(lines.Text(), "data: "), d.text).Str
				if before < 3 && strings.Count(o.text, " ") >= 3 { // in the middle of it
					begun <- struct{}{}
				}
			}
			o.err = lines.Err()
			done <- o
		}()
	}
	for range 4 {
		<-begun
	}
	if err := syscall.Kill(box.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range tokens {
		fmt.Fprintf(&want, " %d", i+1)
	}
	for range 4 {
		o := <-done
		if o.err != nil || o.text != want.String() {
			t.Errorf("%v: %q", o.err, o.text)
		}
		for _, once := range o.once {
			if strings.Count(o.body, once) != 1 {
				t.Errorf("%q stands %d times in\n%s", once, strings.Count(o.body, once), o.body)
			}
		}
	}
	if metrics := in.get("/metrics"); !strings.Contains(metrics, `llmsup_resumed_streams_total{backend="spare",end="whole",route="local/box"} 4`) {
		t.Error("the metrics do not count them")
	}
}

// TestLongWholeAnswer: a non-streaming call that takes longer than its route's timeout is
// answered locally, since its first token came in time.
func TestLongWholeAnswer(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	path := c.serverConfig(t, demotest.Slow(t), "30s")
	in := launch(t, c.env(), "--config", path)
	in.awaitReady()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	setTimeout := func(timeout time.Duration) {
		t.Helper()
		changed := strings.Replace(string(text), "timeout: 60s}", "timeout: "+timeout.String()+"}", 1)
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := in.reload(); code != 0 || !strings.Contains(out, "route local/box: changed\n") {
			t.Fatalf("exit %d:\n%s", code, out)
		}
	}
	const tries = 4 // a busy machine may pause for half of the time that a call takes
	for try := 1; ; try++ {
		setTimeout(5 * time.Minute)
		began := time.Now()
		if r := in.chat("local/box", `,"max_tokens":200`); r.status != 200 || r.backend() != "box" {
			t.Fatalf("%+v", r)
		}
		setTimeout((time.Since(began) / 2).Round(time.Millisecond))
		timedOut := 0
		for path, call := range map[string]string{
			"/v1/chat/completions": `{"model":"local/box","max_tokens":200,"messages":[{"role":"user","content":"count"}]}`,
			"/v1/messages":         `{"model":"local/box","max_tokens":200,"messages":[{"role":"user","content":"count"}]}`,
			"/v1/responses":        `{"model":"local/box","max_output_tokens":200,"input":"count"}`,
		} {
			r := in.post(path, call)
			tokens := max(gjson.Get(r.body, "usage.completion_tokens").Int(), gjson.Get(r.body, "usage.output_tokens").Int())
			if r.backend() == "openrouter" && r.reason() == "timeout" && try < tries {
				timedOut++
			} else if r.status != 200 || r.backend() != "box" || !strings.Contains(r.body, " 199 200") || tokens != 200 {
				t.Errorf("%s with a timeout of half its time: %+v", path, r)
			}
		}
		if paid := len(c.requestedModels()); paid != timedOut {
			t.Errorf("%d of the calls were paid for, want %d", paid, timedOut)
		}
		if timedOut == 0 {
			return
		}
		c.forget(timedOut)
	}
}
