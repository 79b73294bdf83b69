package llamacpp

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/supervisor"
)

// complete makes a call, and returns how many tokens of its prompt were cached and processed.
func complete(t *testing.T, s *supervisor.Server, prompt string) (cached, processed int) {
	t.Helper()
	p := newProbe(s.Snapshot().Endpoint, *s.Snapshot().Description, time.Minute)
	status, body, err := p.do(t.Context(), http.MethodPost, "/completion", fmt.Sprintf(`{"prompt":%q,"n_predict":1}`, prompt))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	timings := gjson.GetBytes(body, "timings")
	return int(timings.Get("cache_n").Int()), int(timings.Get("prompt_n").Int())
}

// TestPromptCacheSurvivesUnload: the real llama-server gets a conversation's cache back after
// it was unloaded, and then callers cannot save slots.
func TestPromptCacheSurvivesUnload(t *testing.T) {
	for name, args := range map[string][]string{"its own number of slots": nil, "two slots": {"-np", "2"}} {
		t.Run(name, func(t *testing.T) {
			spec := supervisor.Spec{Name: "m", Binary: llamaServer(t), Model: demotest.Slow(t), CtxSize: 4096, Args: args, Dir: shortDir(t), KeepCaches: true}
			s, stop := run(t, spec)
			defer stop()
			await(t, s, "ready", isReady)
			folder := filepath.Join(spec.Dir, "prompt-cache")
			if _, err := os.Stat(folder); !os.IsNotExist(err) {
				t.Errorf("the folder exists: %v", err)
			}
			prompt := strings.Repeat("11 22 33 ", 130)
			if cached, processed := complete(t, s, prompt); cached != 0 || processed < 300 {
				t.Fatalf("%d of %d tokens were cached", cached, processed)
			}
			s.Unload(supervisor.DrainOptions{Reason: "for a test"})
			await(t, s, "unloaded", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Unloaded })
			list, err := os.ReadDir(folder)
			if err != nil || len(list) != 1 || s.PromptCaches() != "kept across unloads" {
				t.Fatalf("%v, %v, %q", list, err, s.PromptCaches())
			}
			if info, err := list[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}

			s.Load()
			await(t, s, "ready", isReady)
			if s.Rebuild() == 0 {
				t.Error("the restored cache has no worth")
			}
			if cached, processed := complete(t, s, prompt); processed > 10 || cached < 300 {
				t.Errorf("after a restore %d tokens were cached, and %d processed", cached, processed)
			}
			if _, err := os.Stat(folder); !os.IsNotExist(err) {
				t.Errorf("the folder is left: %v", err)
			}
			probe := newProbe(s.Snapshot().Endpoint, *s.Snapshot().Description, time.Minute)
			if status, body, err := probe.do(t.Context(), http.MethodPost, "/slots/0?action=save", `{"filename":"x.bin"}`); err != nil || status == http.StatusOK {
				t.Errorf("a caller saves a slot: %d %s, %v", status, body, err)
			}
		})
	}
}

// TestCacheLimit: models whose restored caches llama-server does not use.
func TestCacheLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		memory gguf.Memory
		args   []string
		want   string
	}{
		"attention":           {},
		"a window":            {gguf.Memory{Window: 4096}, nil, "sliding window"},
		"a window, kept full": {gguf.Memory{Window: 4096}, []string{"--swa-full"}, ""},
		"Mamba":               {gguf.Memory{StateKernel: 4}, nil, "recurrent"},
		"RWKV":                {gguf.Memory{WKVHead: 64}, []string{"--swa_full"}, "recurrent"},
		"LFM2":                {gguf.Memory{ShortKernel: 3}, nil, "recurrent"},
	} {
		t.Run(name, func(t *testing.T) {
			got := cacheLimit(&gguf.Header{Memory: tc.memory}, readUse(tc.args))
			if !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
