package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// TestModelsRemove: models that no server uses are listed and removed with all parts; others and
// those elsewhere stay.
func TestModelsRemove(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	content := append([]byte("GGUF"), make([]byte, 9<<20)...)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: append(hubtest.Split(t, model, "m-F32", 2), hubtest.File{Path: "m-Q4_K_M.gguf", Content: model}, hubtest.File{Path: "m-Q8_0.gguf", Content: model})},
		hubtest.Repo{Name: "a/large", Files: []hubtest.File{{Path: "l-Q8_0.gguf", Content: content}}})
	state := shortDir(t)
	for _, ref := range []string{"hf:a/b:F32", "hf:a/b:Q8_0"} {
		if got := pull(t, h, state, nil, ref); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	file := newTestConfig(t, "servers:\n  used: {model: hf:a/b:Q4_K_M, load: on_demand, idle_unload: 5s}\n")
	in := launchIn(t, state, h.Environment(), "--config", file.path)
	in.awaitState("used", "unloaded", "a call loads it")
	reached, release := h.Hold(5 << 20)
	cmd, _ := pullCmd(t, h, state, "hf:a/large")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	if !eventually(testTimeout, func() bool { return arrived(t, state) > 0 }) {
		t.Fatal("nothing has arrived")
	}
	folder := filepath.Join(state, "models/a")
	outside := filepath.Join(t.TempDir(), "outside.gguf")
	if err := os.WriteFile(outside, model, 0o600); err != nil {
		t.Fatal(err)
	}
	remove := func(args ...string) (int, string) {
		code, out := in.run(append([]string{"models", "rm", "--state-dir", state}, args...)...)
		return code, strings.Join(strings.Fields(out), " ")
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"not confirmed":             {[]string{"m-Q8_0"}, 1, "nothing was removed: pass --yes to remove " + folder + "/b/m-Q8_0.gguf (1.9 MiB)"},
		"a server's":                {[]string{"--yes", "--config", file.path, "m-Q4_K_M"}, 1, "server used of " + file.path + " uses " + folder + "/b/m-Q4_K_M.gguf"},
		"one of the running llmsup": {[]string{"--yes", "m-Q4_K_M"}, 1, "server used of the running llmsup uses " + folder + "/b/m-Q4_K_M.gguf"},
		"a server":                  {[]string{"--yes", "--config", file.path, "used"}, 1, "used is a server of " + file.path},
		"elsewhere":                 {[]string{"--yes", outside}, 1, "there is no model " + outside + " in " + state + "/models; there are a/b/m-F32-00001-of-00002.gguf, a/b/m-Q4_K_M.gguf, a/b/m-Q8_0.gguf, a/large/l-Q8_0.gguf"},
		"what is being downloaded":  {[]string{"--yes", "l-Q8_0"}, 1, "l-Q8_0.gguf at the moment: stop that first"},
		"nothing":                   {nil, 2, "llmsup models rm takes one name or file"},
	} {
		if code, out := remove(tc.args...); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: exit %d %s\nwant %s", name, code, out, tc.want)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	release()
	if code, out := in.run("models"); code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), "ON DISK SIZE KIND QUANT NEEDS m-F32 ") || !strings.Contains(out, "l-Q8_0") || !strings.Contains(out, "unfinished, ") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for arg, want := range map[string]string{
		"hf:a/b:F32":              "removed " + folder + "/b/m-F32-00001-of-00002.gguf, 2 parts (1.9 MiB); 1.9 MiB are free",
		folder + "/b/m-Q8_0.gguf": "removed " + folder + "/b/m-Q8_0.gguf (1.9 MiB); 1.9 MiB are free",
		"l-Q8_0":                  "removed the unfinished download of " + folder + "/large/l-Q8_0.gguf (",
	} {
		if code, out := remove("--yes", arg); code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d %s\nwant %s", arg, code, out, want)
		}
	}
	if left, err := filepath.Glob(folder + "/*/*"); err != nil || len(left) != 1 || filepath.Base(left[0]) != "m-Q4_K_M.gguf" {
		t.Errorf("left: %q %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(folder, "large")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder stays: %v", err)
	}
}
