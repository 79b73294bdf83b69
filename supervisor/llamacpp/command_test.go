package llamacpp

import (
	"context"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

func TestArguments(t *testing.T) {
	spec := supervisor.Spec{Name: "qwen2.5-14b", Model: "/srv/m.gguf", CtxSize: 8192, NGPULayers: 99, Args: []string{"--flash-attn", "on"}}
	for name, tc := range map[string]struct {
		can      features
		endpoint supervisor.Endpoint
		want     string
	}{
		"socket, newest": {
			features{unixSocket: true, ssePingInterval: true, metrics: true, httpThreads: true},
			supervisor.Endpoint{Network: "unix", Address: "/run/x.sock", Key: "secret"},
			"--model /srv/m.gguf --ctx-size 8192 --n-gpu-layers 99 --host /run/x.sock --port 0 --alias qwen2.5-14b --metrics --sse-ping-interval 1 --threads-http 256 --flash-attn on",
		},
		"port, oldest": {
			features{},
			supervisor.Endpoint{Network: "tcp", Address: "127.0.0.1:41234", Key: "secret"},
			"--model /srv/m.gguf --ctx-size 8192 --n-gpu-layers 99 --host 127.0.0.1 --port 41234 --alias qwen2.5-14b --flash-attn on",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(arguments(spec, models.Description{}, tc.can, tc.endpoint), " "); got != tc.want {
				t.Errorf("arguments:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// TestUseArguments: a model that only computes embeddings or ranks gets the flag without which
// llama-server would refuse each call.
func TestUseArguments(t *testing.T) {
	embeds := models.Description{Abilities: []models.Ability{models.Embedding}}
	ranks := models.Description{Abilities: []models.Ability{models.Rerank}}
	generates := models.Description{Abilities: []models.Ability{models.Chat, models.Completion}}
	current := features{embeddings: true, reranking: true}
	for name, tc := range map[string]struct {
		of   models.Description
		can  features
		args string
		want string
	}{
		"embeds":                    {embeds, current, "", "--embeddings"},
		"embeds, as the user says":  {embeds, current, "--embeddings --pooling cls", ""},
		"embeds, with another flag": {embeds, current, "--pooling cls", "--embeddings"},
		"ranks":                     {ranks, current, "", "--reranking"},
		"ranks, as the user says":   {ranks, current, "--rerank", ""},
		"an old build":              {ranks, features{}, "", ""},
		"generates":                 {generates, current, "", ""},
		"unknown":                   {models.Description{}, current, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(useArguments(supervisor.Spec{Args: strings.Fields(tc.args)}, tc.of, tc.can), " "); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// devices is a GPU that only selects devices.
type devices string

func (d devices) Devices() string            { return string(d) }
func (devices) UnreclaimedVRAM() string      { return "" }
func (devices) Admit(context.Context) string { return "" }

func TestEnvironment(t *testing.T) {
	t.Setenv("CUDA_VISIBLE_DEVICES", "3")
	t.Setenv("LLAMA_API_KEY", "theirs")
	t.Setenv("LLAMA_ARG_HOST", "0.0.0.0")
	t.Setenv("LLAMA_ARG_THREADS", "2")
	for name, tc := range map[string]struct {
		gpu  supervisor.GPU
		want string // what CUDA_VISIBLE_DEVICES is in the end
	}{
		"none":               {devices("none"), ""},
		"an index":           {devices("1"), "1"},
		"a UUID":             {devices("GPU-ab"), "GPU-ab"},
		"all":                {devices(""), "3"},
		"no GPU in the Spec": {nil, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			command := commandFor(supervisor.Spec{GPU: tc.gpu}, models.Description{}, features{}, supervisor.Endpoint{Key: "k"})
			last := map[string]string{}
			for _, entry := range command.Env {
				name, value, _ := strings.Cut(entry, "=")
				last[name] = value
			}
			if got := last["CUDA_VISIBLE_DEVICES"]; got != tc.want {
				t.Errorf("CUDA_VISIBLE_DEVICES is %q, want %q", got, tc.want)
			}
			if _, set := last["LLAMA_ARG_HOST"]; set || last["LLAMA_API_KEY"] != "k" || last["LLAMA_ARG_THREADS"] != "2" {
				t.Errorf("environment %v", last)
			}
		})
	}
}
