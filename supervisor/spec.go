package supervisor

import (
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Spec is what to run. It does not change while its process lives.
type Spec struct {
	Name       string   // the server's name; also the `model` that its answers carry
	Binary     string   // llama-server's absolute path
	Model      string   // the GGUF's path
	CtxSize    int      // tokens, for all slots together
	NGPULayers int      // layers to keep in VRAM
	Args       []string // the user's own flags, last on the command line
	Dir        string   // folder of this server's own: its socket lives there
	Secrets    []string // names of environment variables that the child must not see

	StopGrace    time.Duration // SIGTERM to SIGKILL; 0 = 10 s
	LoadTimeout  time.Duration // loading without any progress; 0 = 120 s
	StallTimeout time.Duration // ready without any sign of life; 0 = 30 s

	// Traffic tells what callers have to do with the server. nil = nobody knows.
	Traffic func() Traffic
	// GPU tells which ones to use, and what holds a start back. nil = all, nothing.
	GPU GPU
}

// Traffic is what a server has to do, as the router sees it.
type Traffic struct {
	Calls   int   // that it has
	Waiting int   // those of them that wait for it, and not for their client to read
	Bytes   int64 // of answers so far
}

// Defaults of a Spec.
const (
	defaultStopGrace    = 10 * time.Second
	DefaultLoadTimeout  = 120 * time.Second
	DefaultStallTimeout = 30 * time.Second
)

// withDefaults fills in what a Spec leaves open.
func (s Spec) withDefaults() Spec {
	s.StopGrace = cmp.Or(s.StopGrace, defaultStopGrace)
	s.LoadTimeout = cmp.Or(s.LoadTimeout, DefaultLoadTimeout)
	s.StallTimeout = cmp.Or(s.StallTimeout, DefaultStallTimeout)
	if s.Traffic == nil {
		s.Traffic = func() Traffic { return Traffic{} }
	}
	if s.GPU == nil {
		s.GPU = noGPU{}
	}
	return s
}

// maxSocketPath is how long a UNIX socket's path may be on Linux, in bytes.
const maxSocketPath = 107

// socketPath returns where the server's UNIX socket goes, "" where the folder's
// path is too long for one.
func (s Spec) socketPath() string {
	path := filepath.Join(s.Dir, "llama-server.sock") // llama-server knows a socket by this ending
	if len(path) > maxSocketPath {
		return ""
	}
	return path
}

// args builds llama-server's command line. The key is not in it: every user of
// the box can read another's arguments.
func (s Spec) args(f features, e Endpoint) []string {
	host, port := e.Address, "0"
	if e.Network == "tcp" {
		i := strings.LastIndexByte(e.Address, ':')
		host, port = e.Address[:i], e.Address[i+1:]
	}
	args := []string{
		"--model", s.Model,
		"--ctx-size", strconv.Itoa(s.CtxSize),
		"--n-gpu-layers", strconv.Itoa(s.NGPULayers),
		"--host", host, "--port", port,
		"--alias", s.Name,
	}
	if f.metrics {
		args = append(args, "--metrics")
	}
	if f.ssePing {
		// llama-server notices a closed stream, and a SIGTERM, at its next ping:
		// with the default of 30 s a stop takes half a minute.
		args = append(args, "--sse-ping-interval", "1")
	}
	if f.httpThreads {
		// A call that waits for a slot holds one of these threads. With as few
		// as there are cores, two dozen waiting calls keep /health from being
		// answered.
		args = append(args, "--threads-http", "256")
	}
	return append(args, s.Args...)
}

// environ builds the child's environment.
func (s Spec) environ(key, mark string) []string {
	env := childEnv(os.Environ(), s.Secrets)
	env = append(env, "LLAMA_API_KEY="+key, markVariable+"="+mark)
	switch devices := s.GPU.Devices(); devices {
	case "":
	case "none":
		env = append(env, "CUDA_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=", "GGML_VK_VISIBLE_DEVICES=")
	default:
		// By default CUDA counts GPUs from the fastest down; operators read
		// nvidia-smi, which counts by PCI bus.
		env = append(env, "CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES="+devices)
	}
	return env
}

// childEnv returns env without what is llmsup's own: its settings, what systemd
// gave to it alone, a llama-server key from outside, and the secrets named.
func childEnv(env, secrets []string) []string {
	drop := map[string]bool{
		"NOTIFY_SOCKET": true, "WATCHDOG_USEC": true, "WATCHDOG_PID": true,
		"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true,
		"CREDENTIALS_DIRECTORY": true,
		// What llmsup says by flags, or must not be said at all:
		"LLAMA_API_KEY": true, "LLAMA_ARG_API_KEY_FILE": true, "LLAMA_ARG_API_PREFIX": true,
		"LLAMA_ARG_HOST": true, "LLAMA_ARG_PORT": true, "LLAMA_ARG_ALIAS": true,
		"LLAMA_ARG_SSL_KEY_FILE": true, "LLAMA_ARG_SSL_CERT_FILE": true,
		"LLAMA_ARG_MODEL": true, "LLAMA_ARG_MODEL_URL": true, "LLAMA_ARG_DOCKER_REPO": true,
		"LLAMA_ARG_HF_REPO": true, "LLAMA_ARG_HF_FILE": true, "LLAMA_ARG_MODELS_DIR": true, "LLAMA_ARG_MODELS_PRESET": true,
	}
	for _, name := range secrets {
		drop[name] = true
	}
	kept := make([]string, 0, len(env)+3)
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if !drop[name] && !strings.HasPrefix(name, "LLMSUP_") {
			kept = append(kept, entry)
		}
	}
	return kept
}
