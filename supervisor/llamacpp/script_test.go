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
	cached, tried, run := scriptWithoutVulkan(t, dir)
	start := func() (triedNow bool, stderr string) {
		t.Helper()
		os.Remove(tried)
		out, stderr := run()
		if out != cached+"\n" {
			t.Fatalf("it prints %q, want %s: %s", out, cached, stderr)
		}
		_, err := os.Stat(tried)
		return err == nil, stderr
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

// TestScriptCannotWrite: a llama-server without the backend for Vulkan is used if the cache folder
// cannot be written to. The script says which variable to set.
func TestScriptCannotWrite(t *testing.T) {
	dir := t.TempDir()
	cached, tried, run := scriptWithoutVulkan(t, dir)
	// Root can write to any folder, but not to these.
	if err := os.Mkdir(filepath.Join(dir, "llama-server/lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	failed := filepath.Join(dir, "llama-server/no-vulkan")
	if err := os.Symlink("no-folder/file", failed); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("touch", "-h", "-d", "2 days ago", failed).CombinedOutput(); err != nil { // a new one says not to try
		t.Fatalf("%v: %s", err, out)
	}
	out, stderr := run()
	if want := "the backend for Vulkan is not in " + dir + "/llama-server, which cannot be written to: set LLMSUP_CACHE_DIR to a writable folder"; out != cached+"\n" || !strings.Contains(stderr, want) {
		t.Errorf("it prints %q, %s\nwant %s", out, stderr, want)
	}
	if _, err := os.Stat(tried); err == nil {
		t.Error("it downloads what it cannot keep")
	}
}

// scriptWithoutVulkan returns the path of a llama-server in the cache folder dir, which has no
// backend for Vulkan though the machine has a driver; a file that is there once a download was
// tried, which fails; and a function that runs scripts/llama-server.sh.
func scriptWithoutVulkan(t *testing.T, dir string) (cached, tried string, run func() (stdout, stderr string)) {
	t.Helper()
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Fatal(err)
	}
	cached = filepath.Join(dir, "llama-server", strings.TrimSpace(string(arch)), "llama-server")
	tried = filepath.Join(dir, "tried")
	driver := filepath.Join(dir, "driver.json")
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
	return cached, tried, func() (stdout, stderr string) {
		t.Helper()
		cmd := exec.Command("../../scripts/llama-server.sh")
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin", "HOME=" + dir, "LLMSUP_CACHE_DIR=" + dir, "VK_DRIVER_FILES=" + driver}
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, errs.String())
		}
		return string(out), errs.String()
	}
}
