package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// longStatus is a status with very long names and reasons.
func longStatus() control.Status {
	long := strings.Repeat("very-long-name-", 2) + "4567890123" // 40 characters
	reason := "GPU 1 has 100 MiB of VRAM free, and others hold 23.5 GiB more than they did (pid 12345 python 23.5 GiB): end them, or move them to another GPU"
	s := control.Status{Version: "v1.2.3", Listen: "127.0.0.1:8000", Inflight: 3}
	since := time.Now().Add(-47*time.Hour - 59*time.Minute)
	for _, name := range []string{"qwen2.5-14b-instruct", long, "demo"} {
		s.Servers = append(s.Servers, control.Server{
			Name: name, State: "restarting", Since: since, Reason: reason, PID: 4194304, Restarts: 120, CtxSize: 1048576, Slots: 128, Busy: 127, Queued: 512,
			Model: "/srv/models/" + name + "/Qwen2.5-14B-Instruct-Q4_K_M-00001-of-00003.gguf",
			VRAM:  &control.VRAM{WeightsBytes: 8 << 30, KVBytes: 3 << 29, ComputeBytes: 1 << 29, HeldBytes: new(uint64(10 << 30))},
			LastExit: &control.LastExit{At: since, Class: "killed", Tail: []string{
				"llama_model_loader: - kv   0:                       general.architecture str              = llama",
			}},
		})
	}
	for i, name := range []string{"NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3", "NVIDIA RTX 6000 Ada Generation", "日本語のとても長いＧＰＵの名前"} {
		s.GPUs = append(s.GPUs, control.GPU{
			Index: i, Name: name, Health: "degraded", Reason: reason, MemoryTotalBytes: new(uint64(80 << 30)), MemoryUsedBytes: new(uint64(70 << 30)),
			MemoryFreeBytes: new(uint64(10 << 30)), UtilizationPercent: new(100), TemperatureCelsius: new(101), PowerWatts: new(float64(690)), PowerLimitWatts: new(float64(700)),
		})
	}
	s.GPUs[0].Health, s.GPUs[0].Reason = "ok", ""
	s.Upstreams = []control.Upstream{
		{Name: "openrouter", Healthy: true}, {Name: long, Reason: "give systemd its key: LoadCredential=openrouter:... in llmsup.service says where it reads it"},
	}
	s.Budgets = []control.Budget{{Key: long, Period: "monthly", Limit: control.USD(5e13), Spent: control.USD(1e12), Reserved: control.USD(1e12), Ends: since}}
	return s
}

// TestStatusFits: without a terminal no table is wider than 80 columns; on a terminal no
// line is wider than it.
func TestStatusFits(t *testing.T) {
	for name, l := range map[string]display{"a file": {}, "a terminal": {terminal: true, width: 80}, "a wide one": {terminal: true, width: 132}, "a small one": {terminal: true, width: 76}} {
		var out strings.Builder
		if err := printStatus(&out, longStatus(), l); err != nil {
			t.Fatal(err)
		}
		page := out.String()
		t.Logf("%s:\n%s", name, page)
		for _, want := range []string{"\n0 GeForce RTX 4090", "\nvery-long-name-very-long-name-4567890123", "\n2 RTX 6000 Ada Generation", "\n3 日本語のとても長いＧＰＵの名前"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: without %q", name, want)
			}
		}
		for _, want := range []string{"end them, or move them to another GPU", "LoadCredential=openrouter:... in llmsup.service says where it reads it", "Qwen2.5-14B-Instruct-Q4_K_M-00001-of-00003.gguf"} {
			if whole := strings.Join(strings.Fields(page), " "); !strings.Contains(whole, want) {
				t.Errorf("%s: %q is cut", name, want)
			}
		}
		if !l.terminal { // the tables alone
			page, _, _ = strings.Cut(page, "\nmonthly budget")
		}
		for line := range strings.Lines(page) {
			if n := columns(strings.TrimSuffix(line, "\n")); n > l.columns() {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}

// TestContainerHealth: the health check of scripts/Containerfile fails until llmsup answers.
func TestContainerHealth(t *testing.T) {
	recipe, err := os.ReadFile("../../scripts/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^HEALTHCHECK .* CMD (\[.*\])$`).FindSubmatch(recipe)
	if m == nil {
		t.Fatal("scripts/Containerfile has no health check")
	}
	var args []string
	if err := json.Unmarshal(m[1], &args); err != nil || args[0] != "llmsup" {
		t.Fatalf("its health check is %s: %v", m[1], err)
	}
	if code, out := runCommand(t, append(args[1:], "--control-socket", filepath.Join(shortDir(t), "c.sock"))...); code == 0 {
		t.Errorf("without llmsup it succeeds: %s", out)
	}
	in := launch(t, nil, "--demo")
	in.awaitReady()
	if code, out := in.run(args[1:]...); code != 0 {
		t.Errorf("with llmsup: exit %d: %s", code, out)
	}
}
