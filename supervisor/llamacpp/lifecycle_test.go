package llamacpp

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

func TestReadyThenStopped(t *testing.T) {
	s, stop := runRole(t, "is well", supervisor.Spec{})
	now := await(t, s, "ready", isReady)
	if now.Slots != 3 || now.CtxSize != 2048 {
		t.Errorf("slots %d, context %d; want 3 and 2048, as /props answers", now.Slots, now.CtxSize)
	}
	if !exists(now.PID) {
		t.Fatalf("pid %d does not run", now.PID)
	}
	stop()
	if exists(now.PID) {
		t.Errorf("pid %d runs after the stop", now.PID)
	}
	select {
	case <-now.Exited:
	default:
		t.Error("Exited is open after the stop")
	}
	if end := s.Snapshot(); end.State != supervisor.Stopped || end.PID != 0 {
		t.Errorf("at the end: %s, pid %d", end.State, end.PID)
	}
}

func TestKilledIsRestarted(t *testing.T) {
	s, _ := runRole(t, "is well", supervisor.Spec{})
	first := await(t, s, "ready", isReady)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Exited
	between := await(t, s, "restarting", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Restarting && n.LastExit != nil })
	if between.LastExit == nil || between.LastExit.Signal != "SIGKILL" {
		t.Errorf("last exit %+v, want a SIGKILL", between.LastExit)
	}
	if !strings.Contains(between.Reason, "ended by SIGKILL; next start in ") {
		t.Errorf("reason %q", between.Reason)
	}
	second := await(t, s, "ready again", isReady)
	if second.PID == first.PID || second.Restarts != 1 || second.RestartsBy[supervisor.Killed] != 1 {
		t.Errorf("pid %d, restarts %d: %v", second.PID, second.Restarts, second.RestartsBy)
	}
	if first.LoadDuration <= 0 || second.LoadDuration <= 0 || len(first.RestartsBy) != 0 {
		t.Errorf("it loaded in %s and %s; before, the restarts were %v", first.LoadDuration, second.LoadDuration, first.RestartsBy)
	}
}

func TestCrashIsExplained(t *testing.T) {
	s, _ := runRole(t, "crashes", supervisor.Spec{})
	now := await(t, s, "an exit", hasExited)
	if now.LastExit.Code != 7 || now.LastExit.Cause != "exit status 7: error: out of luck" {
		t.Errorf("exit %+v", now.LastExit)
	}
	await(t, s, "second start", func(n *supervisor.Snapshot) bool { return n.Restarts >= 1 })
}

func TestSIGTERMIgnored(t *testing.T) {
	s, stop := runRole(t, "ignores SIGTERM", supervisor.Spec{StopGrace: 300 * time.Millisecond})
	now := await(t, s, "ready", isReady)
	began := time.Now()
	stop()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("stopped after %s, before its grace was over", took)
	}
	if exists(now.PID) {
		t.Error("it runs after the stop")
	}
}

// TestForceStop: a second request to stop ends the grace of a process that ignores
// SIGTERM.
func TestForceStop(t *testing.T) {
	force := make(chan struct{})
	s, stop := runEngine(t, Engine{}, supervisor.Spec{Binary: asRole(t, "ignores SIGTERM"), StopGrace: time.Hour}, force)
	await(t, s, "ready", isReady)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	await(t, s, "draining", func(n *supervisor.Snapshot) bool { return n.State == supervisor.Draining })
	select {
	case <-stopped:
		t.Fatal("a process that ignores SIGTERM has ended within its grace")
	default:
	}
	close(force)
	<-stopped
}

// TestHelpThatHangs: a llama-server that hangs when it is run for its --help delays
// no stop, sees no key, and leaves nothing behind.
func TestHelpThatHangs(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "llama-server")
	body := "#!/bin/sh\ncd " + dir + "\nenv > env.new\nmv env.new env\nsleep 300 &\necho $! > pid.new\nmv pid.new pid\nwait\n"
	if err := os.WriteFile(program, []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MY_KEY", "sk-secret")
	_, stop := run(t, supervisor.Spec{Binary: program, Secrets: []string{"MY_KEY"}})
	var child int
	waitFor(t, "the run for --help", func() bool {
		raw, err := os.ReadFile(filepath.Join(dir, "pid"))
		child, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		return err == nil
	})
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || strings.Contains(string(env), "sk-secret") {
		t.Errorf("it saw a key (%v)", err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > slack {
		t.Errorf("the stop took %s", took)
	}
	waitFor(t, "the end of what it started", func() bool { return !runs(child) })
}

// status sends a GET to a server's endpoint.
func status(t *testing.T, e supervisor.Endpoint, path string) int {
	t.Helper()
	status, _, err := newProbe(e, models.Description{}, 10*time.Second).get(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func TestRealServer(t *testing.T) {
	long := strings.Repeat("a-long-name-", 9) // leaves no room for a socket's path
	for name, tc := range map[string]struct{ below, network string }{
		"on a socket": {"", "unix"},
		"on a port":   {long, "tcp"},
	} {
		t.Run(name, func(t *testing.T) {
			s, stop := run(t, supervisor.Spec{
				Binary: llamaServer(t), Model: demoModel(t), CtxSize: 4096, NGPULayers: 99, Dir: filepath.Join(shortDir(t), tc.below), Args: []string{"-np", "2"},
			})
			now := await(t, s, "ready", isReady)
			if now.Endpoint.Network != tc.network {
				t.Errorf("it listens on %s %s, want %s", now.Endpoint.Network, now.Endpoint.Address, tc.network)
			}
			if now.Slots != 2 {
				t.Errorf("%d slots, want the 2 of the user's own flag", now.Slots)
			}
			keyless := now.Endpoint
			keyless.Key = ""
			if with, without := status(t, now.Endpoint, "/slots"), status(t, keyless, "/slots"); with != http.StatusOK || without != http.StatusUnauthorized {
				t.Errorf("with its key %d, without %d; want 200 and 401", with, without)
			}
			if err := s.Verify(t.Context()); err != nil {
				t.Errorf("Verify: %v", err)
			}
			if busy, err := s.BusySlots(t.Context()); busy != 0 || err != nil {
				t.Errorf("an idle server has %d busy slots, %v", busy, err)
			}
			stop()
			if exists(now.PID) {
				t.Error("it runs after the stop")
			}
			if _, err := os.Stat(now.Endpoint.Address); tc.network == "unix" && err == nil {
				t.Error("its socket remains")
			}
		})
	}
}

// takenPort is an engine whose processes have to listen where another one does.
type takenPort struct {
	Engine
	at supervisor.Endpoint
}

func (e takenPort) Command(_ context.Context, spec supervisor.Spec, of models.Description) (supervisor.Command, error) {
	return commandFor(spec, of, features{}, e.at), nil
}

func TestRealPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	engine := takenPort{at: supervisor.Endpoint{Network: "tcp", Address: taken.Addr().String(), Key: "k"}}
	s, _ := runEngine(t, engine, supervisor.Spec{Binary: llamaServer(t), Model: demoModel(t)}, nil)
	now := await(t, s, "ready or an exit", readyOrExited)
	if now.State == supervisor.Ready || now.LastExit.Class != supervisor.PortTaken {
		t.Errorf("%s, exit %+v", now.State, now.LastExit)
	}
}
