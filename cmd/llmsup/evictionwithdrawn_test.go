package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// postUntil makes a call that ctx ends. It returns nil if ctx has ended before the answer began.
func (in *instance) postUntil(ctx context.Context, body string) *http.Response {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil && ctx.Err() == nil {
		in.t.Error(err)
	}
	return resp
}

// TestEvictionWithdrawn: a model that finishes a stream before it leaves for another one stays
// when the client that waits for the other one closes its connection.
func TestEvictionWithdrawn(t *testing.T) {
	t.Parallel()
	b := newGPUMachine(t, nvmltest.Modern)
	b.change(func(box *nvmltest.Box) {
		box.GPUs = box.GPUs[:1]
		box.GPUs[0].Total = 13 * gib // for one model
	})
	in := launch(t, b.env(), "--config", newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, load: on_demand, vram: 11GiB, gpu: "0"}
  slow: {model: %s, load: on_demand, vram: 11GiB, gpu: "0", ctx_size: 32768, args: [-np, "2"]}
`, demoModel(t), demotest.Slow(t))).path)
	defer b.followProcesses(in)()
	if code, out := in.run("load", "slow"); code != 0 {
		t.Fatal(out)
	}
	stream := in.postUntil(t.Context(), `{"model":"local/slow","stream":true,"max_tokens":3000,"messages":[{"role":"user","content":"count"}]}`)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	text := ""
	read := func(tokens int) {
		for strings.Count(text, " ") < tokens && lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				text += gjson.Get(data, "choices.0.delta.content").Str
			}
		}
	}
	read(3)
	before := in.awaitServer(1, "ready", func(s control.Server) bool { return s.State == "ready" })

	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp := in.postUntil(ctx, `{"model":"local/box","max_tokens":1,"messages":[{"role":"user","content":"1"}]}`); resp != nil {
			_ = resp.Body.Close()
			t.Error("the call was answered")
		}
	}()
	in.awaitServer(1, "unloading", func(s control.Server) bool { return s.State == "unloading" })
	leave()
	<-gone
	now := in.awaitServer(1, "ready again", func(s control.Server) bool { return s.State == "ready" })
	if now.PID != before.PID || now.Restarts != 0 {
		t.Errorf("its process was replaced: %+v", now)
	}
	if r := in.chat("local/slow", `,"max_tokens":1`); r.backend() != "slow" {
		t.Errorf("%+v", r)
	}
	count := strings.Count(text, " ") + 20
	if read(count); text != countFrom(1, count) {
		t.Errorf("the stream has %q: %v", text, lines.Err())
	}
	models, err := in.client.Models(t.Context())
	if err != nil || models[0].Loads != 0 {
		t.Errorf("%+v, %v", models, err)
	}
}
