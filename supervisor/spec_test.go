package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	spec := Spec{Name: "qwen2.5-14b", Model: "/srv/m.gguf", CtxSize: 8192, NGPULayers: 99, Args: []string{"--flash-attn", "on"}}
	for name, tc := range map[string]struct {
		can      features
		endpoint Endpoint
		want     string
	}{
		"socket, newest": {
			features{unixSocket: true, ssePing: true, metrics: true, httpThreads: true},
			Endpoint{Network: "unix", Address: "/run/x.sock", Key: "secret"},
			"--model /srv/m.gguf --ctx-size 8192 --n-gpu-layers 99 --host /run/x.sock --port 0 --alias qwen2.5-14b --metrics --sse-ping-interval 1 --threads-http 256 --flash-attn on",
		},
		"port, oldest": {
			features{},
			Endpoint{Network: "tcp", Address: "127.0.0.1:41234", Key: "secret"},
			"--model /srv/m.gguf --ctx-size 8192 --n-gpu-layers 99 --host 127.0.0.1 --port 41234 --alias qwen2.5-14b --flash-attn on",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(spec.args(tc.can, tc.endpoint), " "); got != tc.want {
				t.Errorf("args:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

func TestChildSeesNoSecrets(t *testing.T) {
	env := []string{
		"PATH=/bin", "OPENROUTER_API_KEY=sk-or-1", "LLMSUP_LISTEN=x", "NOTIFY_SOCKET=/n", "WATCHDOG_USEC=1",
		"LISTEN_FDS=1", "LLAMA_API_KEY=theirs", "CREDENTIALS_DIRECTORY=/c", "LLAMA_ARG_THREADS=2",
	}
	got := childEnv(env, []string{"OPENROUTER_API_KEY"})
	if want := []string{"PATH=/bin", "LLAMA_ARG_THREADS=2"}; !slices.Equal(got, want) {
		t.Errorf("the child sees %q, want %q", got, want)
	}
}

func TestGPUSelection(t *testing.T) {
	for gpu, want := range map[string]string{
		"none": "CUDA_VISIBLE_DEVICES=", "1": "CUDA_VISIBLE_DEVICES=1", "GPU-ab": "CUDA_VISIBLE_DEVICES=GPU-ab",
	} {
		if env := (Spec{GPU: fakeGPU{devices: gpu}}).environ("k", "t"); !slices.Contains(env, want) {
			t.Errorf("--gpu %s: no %s in the environment", gpu, want)
		}
	}
	t.Setenv("CUDA_VISIBLE_DEVICES", "3")
	if env := (Spec{}).withDefaults().environ("k", "t"); !slices.Contains(env, "CUDA_VISIBLE_DEVICES=3") {
		t.Error("without --gpu the operator's own CUDA_VISIBLE_DEVICES has to stand")
	}
}

func TestParseFeatures(t *testing.T) {
	help := `--host HOST      ip address to listen, or bind to an UNIX
                                        socket if the address ends with .sock (default: 127.0.0.1)
--metrics   enable prometheus compatible metrics endpoint`
	if got, want := parseFeatures(help), (features{unixSocket: true, metrics: true}); got != want {
		t.Errorf("parseFeatures = %+v, want %+v", got, want)
	}
}

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for name, tc := range map[string]struct{ path, want string }{
		"not on PATH":    {"", "no llama-server on PATH; install llama.cpp, or pass --llama-server FILE"},
		"missing":        {"/nowhere/llama-server", "no llama-server that can be run at /nowhere/llama-server: no such file or directory; pass its path with --llama-server"},
		"not executable": {plain, "permission denied"},
		"a folder":       {dir, "is a folder; pass the program in it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FindBinary(tc.path)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
	program := filepath.Join(dir, "llama-server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := FindBinary(""); err != nil || got != program {
		t.Errorf("FindBinary = %q, %v; want %q", got, err, program)
	}
}
