package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestPromptCacheKept: after a model had to leave for another one and is loaded again, the next
// call of a conversation does not process its prompt again. Nothing of the prompt is left on
// the disk.
func TestPromptCacheKept(t *testing.T) {
	t.Parallel()
	b := newGPUMachine(t, nvmltest.Modern)
	b.change(func(box *nvmltest.Box) {
		box.GPUs = box.GPUs[:1]
		box.GPUs[0].Total = 13 * gib // for one model
	})
	in := launch(t, b.env(), "--config", newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, load: on_demand, vram: 11GiB, gpu: "0"}
  slow: {model: %s, load: on_demand, vram: 11GiB, gpu: "0"}
`, demoModel(t), demotest.Slow(t))).path)
	defer b.followProcesses(in)()
	load := func(name string) {
		t.Helper()
		if code, out := in.run("load", name); code != 0 {
			t.Fatal(out)
		}
	}
	cached := func() int64 {
		t.Helper()
		r := in.post("/v1/chat/completions", fmt.Sprintf(`{"model":"local/slow","max_tokens":1,"messages":[{"role":"user","content":%q}]}`, strings.Repeat("11 22 33 ", 130)))
		if r.status != 200 {
			t.Fatalf("%+v", r)
		}
		return gjson.Get(r.body, "usage.prompt_tokens_details.cached_tokens").Int()
	}
	load("slow")
	if n := cached(); n != 0 {
		t.Errorf("%d tokens of a first call were cached", n)
	}
	folder := filepath.Join(in.state, "servers", "slow", "prompt-cache")
	load("box")
	if list, err := os.ReadDir(folder); err != nil || len(list) != 1 {
		t.Fatalf("saved prompt caches: %v, %v", list, err)
	}
	load("slow")
	if n := cached(); n < 300 {
		t.Errorf("%d tokens were cached", n)
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the saved prompt cache is left: %v", err)
	}
	if code, out := in.run("models"); code != 0 || !strings.Contains(out, "slow's prompt cache: kept across unloads") {
		t.Errorf("llmsup models: exit %d\n%s", code, out)
	}
}
