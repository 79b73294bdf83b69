package config

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/supervisor/generic"
)

// Command is what a Server has instead of a model, to run another engine than llama-server.
type Command struct {
	Argv        Argv              `yaml:"command"`      // the program and its arguments
	Env         map[string]string `yaml:"env"`          // variables in addition to llmsup's own; secret
	Health      string            `yaml:"health"`       // path that answers 200 once the engine is ready; "" = generic.DefaultHealth
	BasePath    string            `yaml:"base_path"`    // of its API; "" = generic.DefaultBasePath
	Slots       int               `yaml:"slots"`        // calls that it gets at the same time; 0 = no limit
	StopCommand Argv              `yaml:"stop_command"` // run at each stop, before SIGTERM
	Sleep       Sleep             `yaml:"sleep"`        // how it releases its VRAM without ending
}

// Argv is a program and its arguments. As a type of its own it has its own example in errors.
type Argv []string

// Sleep has the paths of an engine that can release its VRAM without ending. The zero value
// is one that cannot.
type Sleep struct {
	Path string `yaml:"path"` // POST makes it release its VRAM
	Wake string `yaml:"wake"` // POST makes it take it again
}

// IsCommand reports whether the server runs another engine than llama-server.
func (s Server) IsCommand() bool { return len(s.Argv) > 0 }

// NeedsLlamaServer reports whether a server runs llama-server.
func (c *Config) NeedsLlamaServer() bool {
	for _, s := range c.Servers {
		if !s.IsCommand() {
			return true
		}
	}
	return false
}

// maxSlots limits Command.Slots.
const maxSlots = 10_000

// validVariable matches the name of a variable in Command.Env.
var validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *Config) validateCommand(name string, s Server) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"servers", name, field}, format, args...)
	}
	if !s.IsCommand() {
		for _, field := range yamlKeys(Command{}) {
			if c.positions.has("servers", name, field) {
				return at(field, "applies only to a server with a `command`; add that, or remove this")
			}
		}
		return nil
	}
	for _, field := range []string{"ctx_size", "n_gpu_layers", "args"} {
		if c.positions.has("servers", name, field) {
			return at(field, "applies only to llama-server; put the engine's own flags into `command`")
		}
	}
	switch {
	case s.Model != "":
		return at("model", "there is a `command`, too; keep `model` for llama-server, or `command` for another engine")
	case s.Argv[0] == "" || strings.HasPrefix(s.Argv[0], "-"):
		return at("command", "begins with no program; write it as a list, [PROGRAM, ARGUMENT, ...]")
	case slices.ContainsFunc(slices.Concat(s.Argv, s.StopCommand), hasZeroByte):
		return at("command", "an argument contains a zero byte")
	case generic.NeedsPort(s.Argv, s.Env):
		return at("command", "has no ${PORT}; llmsup chooses a free port of 127.0.0.1 at each start, so pass it to the engine, for example [--port, \"${PORT}\"]")
	case s.Slots < 0 || s.Slots > maxSlots || s.Slots == 0 && c.positions.has("servers", name, "slots"):
		return at("slots", "%d is not between 1 and %d; without `slots` there is no limit", s.Slots, maxSlots)
	case c.positions.has("servers", name, "stop_command") && (len(s.StopCommand) == 0 || s.StopCommand[0] == ""):
		return at("stop_command", "is empty; write it as a list, [PROGRAM, ARGUMENT, ...]")
	}
	return c.validatePaths(name, s)
}

// validatePaths checks the paths and the variables of a command.
func (c *Config) validatePaths(name string, s Server) error {
	for _, variable := range slices.Sorted(maps.Keys(s.Env)) {
		path := []string{"servers", name, "env", variable}
		switch {
		case !validVariable.MatchString(variable):
			return c.positions.errorf(path[:3], "a variable's name has only letters, digits and underscores")
		case strings.HasPrefix(variable, "LLMSUP_"):
			return c.positions.errorf(path, "llmsup's own variables (LLMSUP_...) are not passed to engines; remove it")
		case hasZeroByte(s.Env[variable]):
			return c.positions.errorf(path, "the value contains a zero byte")
		}
	}
	for _, setting := range []struct {
		path  []string
		value string
	}{
		{[]string{"health"}, s.Health},
		{[]string{"base_path"}, s.BasePath},
		{[]string{"sleep", "path"}, s.Sleep.Path},
		{[]string{"sleep", "wake"}, s.Sleep.Wake},
	} {
		at := append([]string{"servers", name}, setting.path...)
		if setting.value == "" && c.positions.has(at...) || setting.value != "" && !validPath.MatchString(setting.value) {
			return c.positions.errorf(at, "is not a path of the engine's API (example: /health)")
		}
	}
	if (s.Sleep.Path == "") != (s.Sleep.Wake == "") {
		return c.positions.errorf([]string{"servers", name, "sleep"}, "needs `path` and `wake` (example: {path: /sleep, wake: /wake_up})")
	}
	return nil
}

// validPath matches a path of an engine's API, with or without a query.
var validPath = regexp.MustCompile(`^/[!-~]*$`)

func hasZeroByte(text string) bool { return strings.ContainsRune(text, 0) }
