package main

import (
	"bufio"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestCommandsWhileStopping: a drain, resume or restart while llmsup waits for the last
// calls is started, and its command reports how it ended when llmsup exits. The next
// llmsup continues a drain.
func TestCommandsWhileStopping(t *testing.T) {
	for name, tc := range map[string]struct {
		first, last string
		after       string // the server's state in the next llmsup
	}{
		"drain --yes": {"demo: it gets no new calls\n", "llmsup is stopping; the drain continues at the next start\n", "drained"},
		"restart":     {"demo: draining: a restart was asked for", "llmsup: llmsup exited during the restart; its next start starts new llama-server processes\n", "ready"},
		"resume":      {"", "llmsup is stopping\n", "ready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			file := newTestConfig(t, "shutdown_grace: 10m\n")
			in := launchIn(t, dir, nil, "--demo", "--config", file.path)
			pid := in.awaitReady().PID
			// This call and all later ones do not end.
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			call := make(chan struct{})
			go func() {
				defer close(call)
				if resp, err := http.Post(in.url+"/v1/completions", "application/json", strings.NewReader(`{"model":"local","prompt":" 1"}`)); err == nil { // it is cut off
					resp.Body.Close()
				}
			}()
			in.await("busy", func(s control.Server) bool { return s.Busy == 1 })
			if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			in.await("stopping", func(control.Server) bool {
				return strings.Contains(in.logged(), "stopping; send the signal again to stop at once")
			})

			if name == "resume" {
				drain := exec.Command("llmsup", "drain", "--yes", "--control-socket", dir+"/c.sock")
				if err := drain.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = drain.Wait() }() // it is cancelled
				in.await("draining", func(s control.Server) bool { return s.State == "draining" })
			}
			cmd := exec.Command("llmsup", append(strings.Fields(name), "--control-socket", dir+"/c.sock")...)
			pipe, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(pipe)
			output := ""
			if tc.first != "" {
				lines.Scan()
				output = lines.Text() + "\n"
			} else { // it prints nothing before the first completion
				in.await("taken into use again", func(control.Server) bool {
					return strings.Contains(in.logged(), "the servers are taken into use again")
				})
			}
			if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			for lines.Scan() {
				output += lines.Text() + "\n"
			}
			_ = cmd.Wait() // the exit code is checked below
			// Once the call is cut off, a drain may be done before llmsup has stopped.
			done := name == "drain --yes" && strings.HasSuffix(output, "\ndrained; llmsup resume takes the servers into use again\n")
			if code := cmd.ProcessState.ExitCode(); done && code != 0 || !done && (code != 1 || !strings.HasPrefix(output, tc.first) || !strings.HasSuffix(output, tc.last)) {
				t.Errorf("exit %d:\n%s", code, output)
			}
			<-in.done
			<-call
			if isRunning(pid) {
				t.Error("llama-server is left")
			}
			next := launchIn(t, dir, nil, "--demo")
			if s := next.await(tc.after, func(s control.Server) bool { return s.State == tc.after }); s.PID == pid {
				t.Errorf("it is the same process, %d", pid)
			}
		})
	}
}
