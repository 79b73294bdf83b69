package generic

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/process"
)

// Port is what stands for the port in a command, or in the value of a variable.
const Port = "${PORT}"

// The defaults of an Engine.
const (
	DefaultHealth   = "/health"
	DefaultBasePath = "/v1"
)

// Engine runs one configured command. It is immutable.
type Engine struct {
	Argv     []string          // the program and its arguments; ${PORT} stands for the port
	Env      map[string]string // in addition to llmsup's own; secret
	Health   string            // path that answers 200 once the program is ready
	BasePath string            // of its OpenAI-compatible API
	Slots    int               // calls that it works on at the same time; 0 = no limit
	Sleep    string            // path at which a POST makes it release its VRAM; "" = it ends for that
	Wake     string            // path at which a POST makes it take its VRAM again
	Stop     []string          // ends what the command has started elsewhere; ${PORT} stands for the port; nil = nothing
}

var _ supervisor.Engine = Engine{}

// Command implements supervisor.Engine. The program gets a free loopback port.
func (e Engine) Command(_ context.Context, spec supervisor.Spec, _ models.Description) (supervisor.Command, error) {
	endpoint, err := process.NewEndpoint(spec.Dir, "")
	if err != nil {
		return supervisor.Command{}, err
	}
	endpoint.Key = "" // the program knows of none
	port := endpoint.Port()
	env := process.Environ(spec.Secrets, nil)
	if spec.GPU != nil {
		env = append(env, process.DeviceVariables(spec.GPU.Devices())...)
	}
	env = append(env, Variables(e.Env, port)...)
	return supervisor.Command{
		Path: spec.Binary, Args: allWithPort(e.Argv[1:], port), Env: env, Endpoint: endpoint, Workers: true,
		Stop: allWithPort(e.Stop, port),
	}, nil
}

// Variables returns configured variables, as os/exec takes them, with the port of a process.
func Variables(env map[string]string, port string) (list []string) {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+withPort(env[name], port))
	}
	return list
}

func withPort(text, port string) string { return strings.ReplaceAll(text, Port, port) }

func allWithPort(args []string, port string) (list []string) {
	for _, arg := range args {
		list = append(list, withPort(arg, port))
	}
	return list
}

// NeedsPort reports whether neither a command nor its variables have a place for the port.
func NeedsPort(command []string, env map[string]string) bool {
	has := func(text string) bool { return strings.Contains(text, Port) }
	return !slices.ContainsFunc(command, has) && !slices.ContainsFunc(slices.Collect(maps.Values(env)), has)
}

// healthPath returns the health path without its query.
func (e Engine) healthPath() string {
	path, _, _ := strings.Cut(e.Health, "?")
	return path
}

// Describe implements supervisor.Engine. What a program's model can do is not known.
func (Engine) Describe(supervisor.Spec) (models.Description, error) {
	return models.Description{}, nil
}

// Capabilities implements supervisor.Engine. The program is taken to have all paths of
// public APIs, below its base path, until it answers otherwise.
func (e Engine) Capabilities([]string) models.Capabilities {
	return models.Capabilities{Program: filepath.Base(e.Argv[0]), BasePath: e.BasePath}
}
