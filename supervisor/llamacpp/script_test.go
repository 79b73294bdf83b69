package llamacpp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestScriptRemembers: scripts/llama-server.sh tries once to replace a llama-server that it
// has unpacked before there was a GPU by one with the backend for Vulkan. Without a network
// each try takes seconds, so the next starts do not try again, and say how to.
func TestScriptRemembers(t *testing.T) {
	dir := t.TempDir()
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Fatal(err)
	}
	cached := filepath.Join(dir, "llama-server", strings.TrimSpace(string(arch)), "llama-server")
	tried, driver := filepath.Join(dir, "tried"), filepath.Join(dir, "driver.json")
	for path, text := range map[string]string{
		cached:                        "#!/bin/sh\necho 'loaded CPU backend from libggml-cpu-x64.so'\n",
		driver:                        "{}",
		filepath.Join(dir, "apt-get"): "#!/bin/sh\necho >>" + tried + "\nexit 100\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	start := func() (triedNow bool, stderr string) {
		t.Helper()
		os.Remove(tried)
		cmd := exec.Command("../../scripts/llama-server.sh")
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir, "LLMSUP_CACHE_DIR=" + dir, "VK_DRIVER_FILES=" + driver}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || string(out) != cached+"\n" {
			t.Fatalf("it prints %q, want %s: %v: %s", out, cached, err, errs.String())
		}
		_, err = os.Stat(tried)
		return err == nil, errs.String()
	}

	if now, stderr := start(); !now {
		t.Fatalf("the first start does not try to get the backend: %s", stderr)
	}
	now, stderr := start()
	_, command, found := strings.Cut(stderr, "or at the next start after: ")
	command, _, _ = strings.Cut(command, ";")
	if now || !found {
		t.Fatalf("the second start tries again: %t; it prints %s", now, stderr)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	if now, stderr := start(); !now {
		t.Errorf("after %s it does not try again: %s", command, stderr)
	}
}
