package config

import (
	"reflect"
	"strings"
	"testing"
)

// TestCommandErrors: a server has either a model or a command, and each key belongs to one
// of them.
func TestCommandErrors(t *testing.T) {
	const command = "servers:\n  a:\n    command: [engine, --port, '${PORT}']\n    "
	for name, tc := range map[string]struct{ file, want string }{
		"neither":                {"servers:\n  a: {gpu: none}", "f.yaml:2: servers.a.model: is missing; set the path of the GGUF file, or `command` for another engine than llama-server"},
		"both":                   {command + "model: m", "f.yaml:4: servers.a.model: there is a `command`, too; keep `model` for llama-server, or `command` for another engine"},
		"no port":                {"servers:\n  a:\n    command: [engine, $PORT]", "f.yaml:3: servers.a.command: has no ${PORT}; llmsup chooses a free port of 127.0.0.1 at each start, so pass it to the engine"},
		"a flag for a program":   {"servers:\n  a:\n    command: [--port, '${PORT}']", "f.yaml:3: servers.a.command: begins with no program; write it as a list"},
		"text":                   {"servers:\n  a:\n    command: engine --port 1", "f.yaml:3: wrong kind of value; want a list"},
		"context":                {command + "ctx_size: 1", "f.yaml:4: servers.a.ctx_size: applies only to llama-server; put the engine's own flags into `command`"},
		"layers":                 {command + "n_gpu_layers: 1", "f.yaml:4: servers.a.n_gpu_layers: applies only to llama-server"},
		"arguments":              {command + "args: [-x]", "f.yaml:4: servers.a.args: applies only to llama-server"},
		"health of a model":      {"servers:\n  a:\n    model: m\n    health: /health", "f.yaml:4: servers.a.health: applies only to a server with a `command`; add that, or remove this"},
		"slots of a model":       {"servers:\n  a: {model: m, slots: 2}", "f.yaml:2: servers.a.slots: applies only to a server with a `command`"},
		"no slots":               {command + "slots: 0", "f.yaml:4: servers.a.slots: 0 is not between 1 and 10000; without `slots` there is no limit"},
		"a URL for a path":       {command + "health: http://x/health", "f.yaml:4: servers.a.health: is not a path of the engine's API (example: /health)"},
		"an empty path":          {command + "base_path: ''", "f.yaml:4: servers.a.base_path: is not a path"},
		"half a sleep":           {command + "sleep: {path: /sleep}", "f.yaml:4: servers.a.sleep: needs `path` and `wake` (example: {path: /sleep, wake: /wake_up})"},
		"a sleep without a path": {command + "sleep: {path: sleep, wake: /wake}", "f.yaml:4: servers.a.sleep.path: is not a path"},
		"an empty stop_command":  {command + "stop_command: []", "f.yaml:4: servers.a.stop_command: is empty; write it as a list"},
		"a bad variable":         {command + "env: {A-B: secret}", "f.yaml:4: servers.a.env: a variable's name has only letters, digits and underscores"},
		"a variable of llmsup":   {command + "env: {LLMSUP_X: secret}", "f.yaml:4: servers.a.env.LLMSUP_X: llmsup's own variables (LLMSUP_...) are not passed to engines; remove it"},
		"an unknown key":         {command + "stopcommand: [x]", `f.yaml:4: unknown key "stopcommand"; did you mean "stop_command"?`},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(tc.file))
			if err == nil {
				err = c.Resolve(noHeader)
			}
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the value of a variable: %v", err)
			}
		})
	}
}

// TestCommand: what llama-server's settings are by default does not exist for another engine,
// also where flags set it for all servers.
func TestCommand(t *testing.T) {
	c := mustParse(t, "servers: {whisper: {command: [w, '${PORT}'], env: {A: b}}, ollama: {command: [o], env: {OLLAMA_HOST: '127.0.0.1:${PORT}'}}}")
	if err := c.Apply(Flags{CtxSize: new(9), NGPULayers: new(9), Args: []string{"-y"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Resolve(noHeader); err != nil {
		t.Fatal(err)
	}
	want := Server{Command: Command{Argv: []string{"w", "${PORT}"}, Env: map[string]string{"A": "b"}}, IdleUnload: DefaultServer().IdleUnload}
	if got := c.Servers["whisper"]; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if r := c.Routes["local/whisper"]; r.Primary != "whisper" || c.NeedsLlamaServer() {
		t.Errorf("route %+v", r)
	}
}
