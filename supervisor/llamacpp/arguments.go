package llamacpp

import (
	"errors"
	"fmt"
	"strings"
)

// reservedArgs are the flags of llama-server that llmsup sets itself, or that would keep
// it from serving the configured model. Each has what to do instead.
var reservedArgs = byFlag(map[string][]string{
	"pass --model to llmsup, or set `model`":               {"-m", "--model"},
	"pass --ctx-size to llmsup, or set `ctx_size`":         {"-c", "--ctx-size"},
	"pass --n-gpu-layers to llmsup, or set `n_gpu_layers`": {"-ngl", "--gpu-layers", "--n-gpu-layers"},
	"llmsup names the server itself":                       {"-a", "--alias"},
	"llmsup chooses the address itself":                    {"--host", "--port", "--reuse-port"},
	"llmsup depends on the default paths":                  {"--api-prefix"},
	"llmsup generates a key for llama-server":              {"--api-key", "--api-key-file"},
	"llmsup talks to llama-server without TLS":             {"--ssl-key-file", "--ssl-cert-file"},
	"llmsup sets it": {"--metrics"},
	"llmsup runs one model per server; add it to `servers`": {"--models-dir", "--models-preset"},
	"llmsup runs a file; download the model first": {
		"-hf", "-hfr", "--hf-repo", "-hff", "--hf-file", "-hft", "--hf-token", "-mu", "--model-url", "-dr", "--docker-repo",
		"-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf", "-mmu", "--mmproj-url",
	},
	"run llama-server directly for that": {
		"-h", "--help", "--usage", "--version", "-cl", "--cache-list", "--completion-bash", "--list-devices",
	},
})

// byFlag returns a table by flag, of one by reason.
func byFlag(byReason map[string][]string) map[string]string {
	byFlag := map[string]string{}
	for reason, flags := range byReason {
		for _, flag := range flags {
			byFlag[flag] = reason
		}
	}
	return byFlag
}

// CheckArgs rejects flags of llama-server that llmsup sets itself, and those that
// download a model or print something and exit. Its errors name the flag and what to do
// instead, and repeat no value.
func CheckArgs(args []string) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(name, "--") { // llama-server accepts --ctx_size for --ctx-size
			name = strings.ReplaceAll(name, "_", "-")
		}
		reason, owned := reservedArgs[name]
		if isPreset(name) {
			reason, owned = reservedArgs["--hf-repo"], true
		}
		if owned {
			return fmt.Errorf("llama-server's %s cannot be passed on: %s", name, reason)
		}
		if strings.ContainsRune(arg, 0) {
			return errors.New("an argument for llama-server contains a zero byte")
		}
	}
	return nil
}

// isPreset reports whether a flag selects a model that llama-server would download
// (--gpt-oss-20b-default, --fim-qwen-7b-default, and more with every build).
// --spec-default is only a set of options.
func isPreset(flag string) bool {
	return strings.HasPrefix(flag, "--") && strings.HasSuffix(flag, "-default") && flag != "--spec-default"
}

// WithProjector returns the arguments for a model that gets images or sound through a projector
// in a file of its own.
func WithProjector(path string) []string { return []string{"--mmproj", path} }

// SingleThread returns the arguments with which llama-server computes in one thread.
func SingleThread() []string { return []string{"--threads", "1"} }
