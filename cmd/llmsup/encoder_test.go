package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// launchEncoders starts llmsup on three servers that generate nothing, sorted by name: a
// decoder that --embeddings has restricted, an encoder and a ranker, for which the user has
// set no flags.
func launchEncoders(t *testing.T) (*instance, *fakeCloud) {
	t.Helper()
	c := newFakeCloud(t)
	config := filepath.Join(t.TempDir(), "llmsup.yaml")
	text := fmt.Sprintf(`
servers:
  counts: {model: %s, args: [--embeddings]}
  embeds: {model: %s}
  ranks: {model: %s}
upstreams:
  openrouter: {base_url: %s, billing: free}
routes:
  helped: {primary: embeds, fallback: openrouter, fallback_model: v/m}
`, demoModel(t), demotest.Encoder(t, demo.Encoder{}), demotest.Encoder(t, demo.Encoder{Ranker: true}), c.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	in := launch(t, nil, "--config", config)
	for i := range 3 {
		in.awaitServer(i, "ready", isReady)
	}
	return in, c
}

const (
	embeddingCall = `{"model":"local/embeds","input":["cat","act","dog"]}`
	rankCall      = `{"model":"local/ranks","query":"q","documents":["no no","yes yes"]}`
)

// TestEncoders: servers whose models generate nothing become ready and answer what they can. A
// call for text does not reach them.
func TestEncoders(t *testing.T) {
	t.Parallel()
	in, cloud := launchEncoders(t)
	if r := in.post("/v1/embeddings", embeddingCall); r.status != 200 || r.backend() != "embeds" || len(gjson.Get(r.body, "data.2.embedding").Array()) != 64 {
		t.Errorf("embeddings: %+v", r)
	}
	if r := in.post("/v1/rerank", rankCall); r.status != 200 || r.backend() != "ranks" || gjson.Get(r.body, "results.0.index").Int() != 1 {
		t.Errorf("rerank: %+v", r)
	}
	for _, model := range []string{"local/counts", "local/embeds", "local/ranks"} {
		for path, body := range map[string]string{
			"/v1/chat/completions": `"messages":[{"role":"user","content":"a"}]`, "/v1/completions": `"prompt":"a"`,
			"/v1/responses": `"input":"a"`, "/v1/messages": `"max_tokens":1,"messages":[{"role":"user","content":"a"}]`, "/infill": `"input_prefix":"a"`,
		} {
			r := in.post(path, `{"model":"`+model+`",`+body+`}`)
			if r.status != http.StatusBadRequest || r.header.Get("x-should-retry") != "false" || r.header.Get("Retry-After") != "" ||
				!strings.Contains(r.body, "does not answer "+path+": its model generates no text") {
				t.Errorf("%s at %s: %+v", model, path, r)
			}
		}
	}
	if r := in.post("/infill", `{"model":"helped","input_prefix":"a"}`); r.status != http.StatusBadRequest || r.header.Get("x-should-retry") != "false" {
		t.Errorf("a path that its fallback does not have: %+v", r)
	}
	for model, want := range map[string]string{"local/counts": "embedding", "local/embeds": "embedding", "local/ranks": "rerank"} {
		if m := in.get("/v1/models/" + model); gjson.Get(m, "capabilities").Raw != `["`+want+`"]` || gjson.Get(m, "status").Str != "ready" {
			t.Errorf("%s is listed as %s", model, m)
		}
	}
	if r := in.chat("helped", ""); r.status != 200 || r.backend() != "openrouter" || r.reason() != "unsupported" {
		t.Errorf("a chat with a fallback: %+v", r)
	}
	if got := cloud.requestedModels(); len(got) != 1 || got[0] != "v/m" {
		t.Errorf("the cloud got calls for %q", got)
	}
	for i := range 3 {
		if now := in.awaitServer(i, "ready", isReady); now.Restarts != 0 || now.LastExit != nil {
			t.Errorf("%s has ended: %+v", now.Name, now.LastExit)
		}
	}
}

// TestEncodersMaintained: drain, resume and restart work for servers whose models generate
// nothing, and no call fails during a restart.
func TestEncodersMaintained(t *testing.T) {
	t.Parallel()
	in, _ := launchEncoders(t)
	command := func(want string, args ...string) {
		t.Helper()
		if code, out := in.run(args...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, want %q in\n%s", args, code, want, out)
		}
	}
	for _, drain := range [][]string{{"drain", "--yes"}, {"drain", "--yes", "--keep-server"}} {
		command("drained", drain...)
		command("embeds: has answered a test call, and is ready", "resume")
	}

	stop, calls := make(chan struct{}), sync.WaitGroup{}
	var answered atomic.Int64
	for path, body := range map[string]string{"/v1/embeddings": embeddingCall, "/v1/rerank": rankCall} {
		calls.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := http.Post(in.url+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				if answered.Add(1); resp.StatusCode != http.StatusOK {
					t.Errorf("%s answered %s during a restart", path, resp.Status)
				}
			}
		})
	}
	command("replaced, and in use again", "restart")
	close(stop)
	calls.Wait()
	if answered.Load() == 0 {
		t.Error("no call was made during the restart")
	}
}
