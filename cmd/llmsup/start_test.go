package main

import (
	"strings"
	"testing"
)

// TestSecondDaemon: a second daemon does not start with the state directory, the control
// socket or the port of a running one.
func TestSecondDaemon(t *testing.T) {
	t.Parallel()
	in := launch(t, nil, "--demo")
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"state directory": {
			[]string{"--state-dir", in.state, "--control-socket", shortDir(t) + "/c.sock", "--listen", "127.0.0.1:0"},
			"state directory " + in.state + " is held by llmsup (pid " + itoa(in.cmd.Process.Pid) + "); stop it, or pass another one with --state-dir",
		},
		"control socket": {
			[]string{"--state-dir", shortDir(t), "--control-socket", in.state + "/c.sock", "--listen", "127.0.0.1:0"},
			"llmsup (pid " + itoa(in.cmd.Process.Pid) + ") listens there; stop it, or pass another path with --control-socket",
		},
		"port": {
			[]string{"--state-dir", shortDir(t), "--control-socket", shortDir(t) + "/c.sock", "--listen", strings.TrimPrefix(in.url, "http://")},
			"another program uses the port; stop it, or pass another port with --listen HOST:PORT",
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, out := runCommand(t, append([]string{"start", "--demo", "--llama-server", llamaServer(t)}, tc.args...)...)
			if code != 1 || !strings.Contains(out, tc.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit %d: %s\nwant exit 1 and one line with %q", code, out, tc.want)
			}
		})
	}
	if _, err := in.client.Status(t.Context()); err != nil {
		t.Errorf("the first daemon no longer answers: %v", err)
	}
}
