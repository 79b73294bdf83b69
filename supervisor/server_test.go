package supervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// run starts a server that the test binary plays in some role, or the real
// llama-server when role is "". It is stopped at the end of the test.
func run(t *testing.T, role string, spec Spec) (s *Server, stop func()) {
	t.Helper()
	if role != "" {
		t.Setenv("SUPERVISOR_TEST_ROLE", role)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		spec.Binary, spec.Model = self, "none.gguf"
	}
	spec.Name, spec.Dir, spec.CtxSize = "test", shortDir(t), 8192
	s = New(spec, nopLog, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return s, stop
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func isReady(n *Snapshot) bool { return n.State == Ready }

func TestReadyThenStopped(t *testing.T) {
	s, stop := run(t, "polite", Spec{})
	now := await(t, s, "ready", isReady)
	if now.Slots != 3 || now.CtxSize != 2048 {
		t.Errorf("slots %d, context %d; want 3 and 2048, as /props said", now.Slots, now.CtxSize)
	}
	if !alive(now.PID) {
		t.Fatalf("pid %d does not run", now.PID)
	}
	stop()
	if alive(now.PID) {
		t.Errorf("pid %d runs after the stop", now.PID)
	}
	select {
	case <-now.Exited:
	default:
		t.Error("Exited is open after the stop")
	}
	if end := s.Snapshot(); end.State != Stopped || end.PID != 0 {
		t.Errorf("at the end: %s, pid %d", end.State, end.PID)
	}
}

func TestKilledIsRestarted(t *testing.T) {
	s, _ := run(t, "polite", Spec{})
	first := await(t, s, "ready", isReady)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-first.Exited
	between := await(t, s, "restarting", func(n *Snapshot) bool { return n.State == Restarting && n.LastExit != nil })
	if between.LastExit == nil || between.LastExit.Signal != "SIGKILL" {
		t.Errorf("last exit %+v, want a SIGKILL", between.LastExit)
	}
	if !strings.Contains(between.Reason, "ended by SIGKILL; next start in ") {
		t.Errorf("reason %q", between.Reason)
	}
	second := await(t, s, "ready again", isReady)
	if second.PID == first.PID || second.Restarts != 1 || second.RestartsBy[Killed] != 1 {
		t.Errorf("pid %d, restarts %d: %v", second.PID, second.Restarts, second.RestartsBy)
	}
	if first.LoadDuration <= 0 || second.LoadDuration <= 0 || len(first.RestartsBy) != 0 {
		t.Errorf("it loaded in %s and %s; of the first one it says %v", first.LoadDuration, second.LoadDuration, first.RestartsBy)
	}
}

func TestCrashIsTold(t *testing.T) {
	s, _ := run(t, "crash", Spec{})
	now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
	if now.LastExit.Code != 7 || now.LastExit.Cause != "exit status 7: error: out of luck" {
		t.Errorf("exit %+v", now.LastExit)
	}
	await(t, s, "second start", func(n *Snapshot) bool { return n.Restarts >= 1 })
}

func TestDeafToSIGTERM(t *testing.T) {
	s, stop := run(t, "deaf", Spec{StopGrace: 300 * time.Millisecond})
	now := await(t, s, "ready", isReady)
	began := time.Now()
	stop()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("stopped after %s, before its grace was over", took)
	}
	if alive(now.PID) {
		t.Error("it lives")
	}
}

func TestGroupGoesWithIt(t *testing.T) {
	lines := make(chan string, 100)
	t.Setenv("SUPERVISOR_TEST_ROLE", "parent")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := &lineWriter{emit: func(line string) { lines <- line }}
	p, err := launch(self, []string{"--host", shortDir(t) + "/x.sock"}, os.Environ(), out)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimPrefix(<-lines, "child "))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil { // the leader alone
		t.Fatal(err)
	}
	<-p.over
	// init reaps the orphan in its own time; what counts is that it was killed.
	for deadline := time.Now().Add(patience); running(child); {
		if time.Now().After(deadline) {
			t.Fatalf("the group's other process %d outlives its leader", child)
		}
		time.Sleep(time.Millisecond)
	}
}

// running says whether a pid is a process that is not a zombie.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestNoBinary(t *testing.T) {
	s, _ := run(t, "", Spec{Binary: "/nowhere/llama-server"})
	now := await(t, s, "an exit", func(n *Snapshot) bool { return n.LastExit != nil })
	if !strings.Contains(now.LastExit.Cause, "/nowhere/llama-server") {
		t.Errorf("cause %q does not name the program", now.LastExit.Cause)
	}
}

// TestHelpIsDisciplined: a llama-server that hangs when it is asked for --help
// holds up nobody, sees no key, and leaves nothing behind.
func TestHelpIsDisciplined(t *testing.T) {
	dir := t.TempDir()
	program := dir + "/llama-server"
	script := "#!/bin/sh\nenv > " + dir + "/env.new\nmv " + dir + "/env.new " + dir + "/env\nsleep 300 &\necho $! > " + dir + "/pid.new\nmv " + dir + "/pid.new " + dir + "/pid\nwait\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("MY_KEY", "sk-secret")
	s, stop := run(t, "", Spec{Binary: program, Secrets: []string{"MY_KEY"}})
	var child int
	for deadline := time.Now().Add(patience); child == 0; time.Sleep(time.Millisecond) {
		if raw, err := os.ReadFile(dir + "/pid"); err == nil {
			child, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		}
		if time.Now().After(deadline) {
			t.Fatalf("it was not run: %+v", s.Snapshot())
		}
	}
	env, err := os.ReadFile(dir + "/env")
	if err != nil || strings.Contains(string(env), "sk-secret") {
		t.Errorf("it saw a key (%v)", err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > slack {
		t.Errorf("the stop took %s", took)
	}
	for deadline := time.Now().Add(slack); running(child); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what it started lives")
		}
	}
}

// TestStopInBackoff: nobody waits for the end of a pause.
func TestStopInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Spec{Name: "x", Dir: t.TempDir()}, nopLog, nil)
		failsFast(s, Exit{Code: 1})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		time.Sleep(10 * time.Minute) // the pauses are a minute by now
		began := time.Now()
		cancel()
		<-done
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop took %s", took)
		}
		if state := s.Snapshot().State; state != Stopped {
			t.Errorf("it is %s", state)
		}
	})
}

// TestHurry: told twice to stop, llmsup gives a deaf child no grace.
func TestHurry(t *testing.T) {
	t.Setenv("SUPERVISOR_TEST_ROLE", "deaf")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	hurry := make(chan struct{})
	s := New(Spec{Name: "test", Binary: self, Dir: shortDir(t), StopGrace: time.Hour}, nopLog, hurry)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	await(t, s, "ready", isReady)
	cancel()
	select {
	case <-done:
		t.Fatal("a deaf child has ended by itself")
	case <-time.After(200 * time.Millisecond):
	}
	close(hurry)
	<-done
}

// TestSocketOfSomebodyElse: a socket that is listened on, or a file in its
// place, is not removed.
func TestSocketOfSomebodyElse(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", dir+"/live.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(dir+"/file.sock", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/dead.sock", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	for name, want := range map[string]string{"live": "another process listens", "file": "is in the way", "dead": "", "none": ""} {
		err := clearSocket(dir + "/" + name + ".sock")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, there := range map[string]bool{"live": true, "file": true, "dead": false} {
		if _, err := os.Lstat(dir + "/" + name + ".sock"); (err == nil) != there {
			t.Errorf("%s: there: %t", name, err == nil)
		}
	}
}
