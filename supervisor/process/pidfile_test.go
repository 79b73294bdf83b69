package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
)

// sleeper starts a process that does nothing, in a group of its own.
func sleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestOrphan(t *testing.T) {
	for name, tc := range map[string]struct {
		env  []string
		edit func(*pidFile)
		ends bool
	}{
		"its own":             {nil, func(*pidFile) {}, true},
		"by its token":        {[]string{"LLMSUP_CHILD=tok"}, func(r *pidFile) { r.StartTime = 0 }, true},
		"a reused pid":        {nil, func(r *pidFile) { r.StartTime-- }, false},
		"another token":       {[]string{"LLMSUP_CHILD=token2"}, func(r *pidFile) { r.StartTime = 0 }, false},
		"of an earlier boot":  {nil, func(r *pidFile) { r.BootID = "another" }, false},
		"no start time known": {nil, func(r *pidFile) { r.StartTime, r.Token = 0, "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := sleeper(t, tc.env...)
			pid := cmd.Process.Pid
			dir := t.TempDir()
			r := pidFile{PID: pid, StartTime: startTime(pid), BootID: bootID(), Token: "tok"}
			tc.edit(&r)
			if err := r.write(dir); err != nil {
				t.Fatal(err)
			}
			// The process is a child of this test, so it stays as a zombie; its pidfd
			// reports the end all the same.
			ended, err := killOrphan(dir, noEnvironment)
			if err != nil || (ended > 0) != tc.ends {
				t.Errorf("killed %d, %v; want one: %t", ended, err, tc.ends)
			}
			if runs(pid) == tc.ends {
				t.Errorf("it runs: %t", runs(pid))
			}
			if _, err := os.Stat(dir + "/" + pidFileName); err == nil {
				t.Error("the pid file is still there")
			}
		})
	}
}

// TestOrphansOfAWrapper: the wrapper has ended, what it started has not.
func TestOrphansOfAWrapper(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 300 & sleep 300 & echo started; exec sleep 300")
	cmd.Env = append(os.Environ(), "LLMSUP_CHILD=tok")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := cmd.Process.Pid
	defer syscall.Kill(-group, syscall.SIGKILL) //nolint:errcheck // nothing should be left
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	start := startTime(group)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	dir := t.TempDir()
	if err := (pidFile{PID: group, StartTime: start, BootID: bootID(), Token: "tok"}).write(dir); err != nil {
		t.Fatal(err)
	}
	if ended, err := killOrphan(dir, noEnvironment); ended != 2 || err != nil {
		t.Errorf("ended %d, %v; want the wrapper's two", ended, err)
	}
	waitFor(t, "the end of the group", func() bool { return !anyRuns(Group(group)) })
}

func noEnvironment(string) []string { return nil }

// TestStopOfAnOrphan: the stop command gets the port on which the process listened.
func TestStopOfAnOrphan(t *testing.T) {
	t.Parallel()
	dir, pid := t.TempDir(), sleeper(t).Process.Pid
	stopped := filepath.Join(dir, "stopped")
	command := Command{Stop: []string{"/bin/sh", "-c", "printf %s $WHERE >" + stopped}, Port: "4711"}
	if err := WritePIDFile(dir, pid, command); err != nil {
		t.Fatal(err)
	}
	ended, err := killOrphan(dir, func(port string) []string { return []string{"WHERE=127.0.0.1:" + port} })
	if ended != 1 || err != nil {
		t.Errorf("ended %d, %v; want 1", ended, err)
	}
	if got, err := os.ReadFile(stopped); string(got) != "127.0.0.1:4711" {
		t.Errorf("the command got %q, %v", got, err)
	}
}

func anyRuns(pids []int) bool {
	return slices.ContainsFunc(pids, runs)
}

func TestPIDFileOfNoProcess(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "garbage": "{{{", "pid 1": `{"pid":1,"boot_id":"` + bootID() + `"}`, "pid 0": `{}`} {
		if text != "" {
			if err := os.WriteFile(dir+"/"+pidFileName, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if ended, err := killOrphan(dir, noEnvironment); ended != 0 || err != nil {
			t.Errorf("%s: ended %d, %v", name, ended, err)
		}
	}
}

// TestOrphansOfAllServers: also of those that this llmsup does not have.
func TestOrphansOfAllServers(t *testing.T) {
	dir := t.TempDir()
	var pids []int
	for _, name := range []string{"one", "two"} {
		pid := sleeper(t).Process.Pid
		pids = append(pids, pid)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := (pidFile{PID: pid, StartTime: startTime(pid), BootID: bootID()}).write(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	KillOrphans(dir, nil, zerolog.Nop())
	if anyRuns(pids) {
		t.Error("some of them run")
	}
	KillOrphans(filepath.Join(dir, "nowhere"), nil, zerolog.Nop())
}
