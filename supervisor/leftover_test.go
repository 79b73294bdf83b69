package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
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

func TestLeftover(t *testing.T) {
	for name, tc := range map[string]struct {
		env  []string
		edit func(*record)
		ends bool
	}{
		"its own":             {nil, func(*record) {}, true},
		"by its mark":         {[]string{"LLMSUP_CHILD=tok"}, func(r *record) { r.StartTime = 0 }, true},
		"a reused pid":        {nil, func(r *record) { r.StartTime-- }, false},
		"another mark":        {[]string{"LLMSUP_CHILD=token2"}, func(r *record) { r.StartTime = 0 }, false},
		"of an earlier boot":  {nil, func(r *record) { r.BootID = "another" }, false},
		"no start time known": {nil, func(r *record) { r.StartTime, r.Mark = 0, "" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := sleeper(t, tc.env...)
			pid := cmd.Process.Pid
			dir := t.TempDir()
			r := record{PID: pid, StartTime: startTime(pid), BootID: bootID(), Mark: "tok"}
			tc.edit(&r)
			if err := writeRecord(dir, r); err != nil {
				t.Fatal(err)
			}
			// The pid is a child of this test's, so it stays as a zombie; its pidfd
			// tells its end all the same.
			ended, err := endLeftover(dir)
			if err != nil || (ended > 0) != tc.ends {
				t.Errorf("ended %d, %v; want one: %t", ended, err, tc.ends)
			}
			if running(pid) == tc.ends {
				t.Errorf("it runs: %t", running(pid))
			}
			if _, err := os.Stat(dir + "/" + recordName); err == nil {
				t.Error("the record is still there")
			}
		})
	}
}

// TestLeftoverOfAWrapper: the wrapper is gone, what it started is not.
func TestLeftoverOfAWrapper(t *testing.T) {
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
	if err := writeRecord(dir, record{PID: group, StartTime: start, BootID: bootID(), Mark: "tok"}); err != nil {
		t.Fatal(err)
	}
	if ended, err := endLeftover(dir); ended != 2 || err != nil {
		t.Errorf("ended %d, %v; want the wrapper's two", ended, err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if left := withMembers(group); !anyRunning(left) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("some of the group live")
		}
	}
}

func anyRunning(pids []int) bool {
	return slices.ContainsFunc(pids, running)
}

func TestNoRecordNoHarm(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"none": "", "garbage": "{{{", "pid 1": `{"pid":1,"boot_id":"` + bootID() + `"}`, "pid 0": `{}`} {
		if text != "" {
			if err := os.WriteFile(dir+"/"+recordName, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if ended, err := endLeftover(dir); ended != 0 || err != nil {
			t.Errorf("%s: ended %d, %v", name, ended, err)
		}
	}
}

// TestLeftoversOfAllServers: also of those that this llmsup does not have.
func TestLeftoversOfAllServers(t *testing.T) {
	dir := t.TempDir()
	var pids []int
	for _, name := range []string{"one", "two"} {
		pid := sleeper(t).Process.Pid
		pids = append(pids, pid)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeRecord(filepath.Join(dir, name), record{PID: pid, StartTime: startTime(pid), BootID: bootID()}); err != nil {
			t.Fatal(err)
		}
	}
	KillOrphans(dir, nopLog)
	if anyRunning(pids) {
		t.Error("some of them run")
	}
	KillOrphans(filepath.Join(dir, "nowhere"), nopLog)
}
