package llamacpp

import (
	"context"
	"net"
	"strconv"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/process"
)

// Engine runs llama-server. It has no state.
type Engine struct{}

var _ supervisor.Engine = Engine{}

// socketName is the file name of the server's UNIX socket. llama-server recognises a
// socket's path by this ending.
const socketName = "llama-server.sock"

// Command returns llama-server's command line for a Spec. It runs the program for
// its --help.
func (Engine) Command(ctx context.Context, spec supervisor.Spec, of models.Description) (supervisor.Command, error) {
	build, err := readFeatures(ctx, spec.Binary, spec.Secrets)
	if err != nil {
		return supervisor.Command{}, err
	}
	socket := ""
	if build.unixSocket {
		socket = socketName
	}
	endpoint, err := process.NewEndpoint(spec.Dir, socket)
	if err != nil {
		return supervisor.Command{}, err
	}
	return commandFor(spec, of, build, endpoint), nil
}

// commandFor returns the command line for one build and endpoint.
func commandFor(spec supervisor.Spec, of models.Description, build features, endpoint supervisor.Endpoint) supervisor.Command {
	env := append(environ(spec.Secrets), "LLAMA_API_KEY="+endpoint.Key)
	if spec.GPU != nil {
		env = append(env, process.DeviceVariables(spec.GPU.Devices())...)
	}
	args := arguments(spec, of, build, endpoint)
	saves := savesCaches(spec, build)
	if saves {
		args = append(args, slotSavePath, spec.CacheFolder)
	}
	return supervisor.Command{Path: spec.Binary, Args: args, Env: env, Endpoint: endpoint, SavesCaches: saves}
}

// arguments returns llama-server's arguments. The key is not among them: every user
// of the machine can read the arguments of others' processes.
func arguments(spec supervisor.Spec, of models.Description, build features, endpoint supervisor.Endpoint) []string {
	host, port := endpoint.Address, "0"
	if endpoint.Network == "tcp" {
		host, port, _ = net.SplitHostPort(endpoint.Address) // supervisor has made it
	}
	args := []string{
		"--model", spec.Model,
		"--ctx-size", strconv.Itoa(spec.CtxSize),
		"--n-gpu-layers", strconv.Itoa(spec.NGPULayers),
		"--host", host, "--port", port,
		"--alias", spec.Name,
	}
	if build.metrics {
		args = append(args, "--metrics")
	}
	if build.ssePingInterval {
		// llama-server notices a closed stream, and a SIGTERM, at its next ping: with
		// the default of 30 s a stop takes half a minute.
		args = append(args, "--sse-ping-interval", "1")
	}
	if build.httpThreads {
		// A call that waits for a slot occupies one of these threads. With only as many
		// as there are cores, two dozen waiting calls prevent answers to /health.
		args = append(args, "--threads-http", "256")
	}
	args = append(args, useArguments(spec, of, build)...)
	return append(args, spec.Args...)
}

// ownedVariables are the environment variables that would change what llmsup sets by
// arguments, or what must not be set at all.
var ownedVariables = []string{
	"LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE", "LLAMA_ARG_API_PREFIX",
	"LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "LLAMA_ARG_ALIAS",
	"LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE",
	"LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_DOCKER_REPO",
	"LLAMA_ARG_HF_REPO", "LLAMA_ARG_HF_FILE", "LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET",
}

// environ returns the environment of a llama-server that is not given a key or GPUs.
func environ(secrets []string) []string { return process.Environ(secrets, ownedVariables) }
