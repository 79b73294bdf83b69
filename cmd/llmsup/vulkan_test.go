package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// softwareVulkan returns a llama-server with the backend for Vulkan, and the environment in
// which it computes on Mesa's software device. ggml uses a device of type CPU only if it is
// named by its number.
func softwareVulkan(t *testing.T) (server string, env []string) {
	t.Helper()
	server = programOf(t, "LLMSUP_TEST_VULKAN_SERVER", "scripts/llama-server.sh --software-vulkan")
	driver := filepath.Join(t.TempDir(), "lvp_icd.json")
	manifest := `{"file_format_version": "1.0.0", "ICD": {"library_path": "libvulkan_lvp.so", "api_version": "1.4.0"}}`
	if err := os.WriteFile(driver, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, []string{"VK_DRIVER_FILES=" + driver, "GGML_VK_VISIBLE_DEVICES=0"}
}

// TestVulkan: the packaged llama-server finds its backend for Vulkan and the driver, and an
// answer is computed by it. check names both.
func TestVulkan(t *testing.T) {
	server, env := softwareVulkan(t)
	in := launch(t, env, "--llama-server", server, "--demo", "--", "--verbosity", "4")
	in.awaitReady()
	if r := in.chat("local", `,"max_tokens":20`); r.status != 200 || !strings.Contains(r.body, " 1 2 3 4") {
		t.Errorf("status %d: %s", r.status, r.body)
	}
	_, log := in.run("logs", "-n", "1000")
	if !regexp.MustCompile(`offloaded 3/3 layers to GPU`).MatchString(log) || !strings.Contains(log, "Vulkan0 model buffer size") {
		t.Errorf("the model is not on Vulkan's device:\n%s", log)
	}
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	want := regexp.MustCompile(`\nok       llama-server: computes on Vulkan0 \(llvmpipe .*, [\d.]+ GiB\); backends: Vulkan, CPU( \(\w+\))?\n`)
	code, out := runCommand(t, "check", "--demo", "--llama-server", server, "--listen", "127.0.0.1:0", "--state-dir", t.TempDir(), "--control-socket", filepath.Join(t.TempDir(), "c.sock"))
	if text := fmt.Sprint("\n", out); code != 0 || !want.MatchString(text) {
		t.Errorf("check: exit %d:\n%s", code, out)
	}
}
