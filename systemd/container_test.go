package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is a Debian that a test has booted, with its own systemd. It shares the
// network of the host, so a listener on loopback is reachable from both. Its files
// survive a reboot and are removed with it.
type container struct {
	t *testing.T
	*machine
}

// machine is the systemd-nspawn that runs a container.
type machine struct {
	name   string
	args   []string // of systemd-nspawn
	group  int      // the descriptor of its cgroup; 0 = the host's systemd creates one
	output bytes.Buffer
	leader int           // the pid of its systemd, on the host
	pid    int           // of systemd-nspawn
	over   chan struct{} // closed when it has exited
}

// bootContainer boots a container of a Debian suite. src maps paths in it to folders of
// the host, which are mounted read-only.
func bootContainer(t *testing.T, suite string, src map[string]string) *container {
	t.Helper()
	out, err := exec.Command("../scripts/systemd-tree.sh", suite).Output()
	if err != nil {
		t.Fatalf("scripts/systemd-tree.sh: %v: %s", err, stderrOf(err))
	}
	tree := strings.TrimSpace(string(out))
	oneAtATime(t, tree+".booted")

	m := &machine{name: "llmsup-" + strconv.Itoa(os.Getpid())}
	m.args = []string{
		"--quiet", "--register=no", "--directory=" + writable(t, tree), "--machine=" + m.name,
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only", "--boot",
	}
	for inside, outside := range src {
		m.args = append(m.args, "--bind-ro="+outside+":"+inside)
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil { // otherwise the host's systemd creates a scope
		m.args = append([]string{"--keep-unit"}, m.args...)
		m.group = ownCgroup(t)
	}
	b := &container{t, m}
	t.Cleanup(func() {
		b.cutPower()
		_ = os.Remove("/run/systemd/nspawn/propagate/" + m.name) // systemd-nspawn leaves this empty folder when it is killed
	})
	b.boot()
	return b
}

// writable returns a writable overlay of a tree, which stays unchanged.
func writable(t *testing.T, tree string) string {
	t.Helper()
	dir := t.TempDir()
	mount := func(from, to, kind, options string) {
		t.Helper()
		if err := unix.Mount(from, to, kind, 0, options); err != nil {
			t.Fatalf("mount %s at %s: %v", kind, to, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(to, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	mount("tmpfs", dir, "tmpfs", "mode=755")
	for _, name := range []string{"changed", "work", "tree"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", dir+"/tree", "overlay", fmt.Sprintf("lowerdir=%s,upperdir=%s/changed,workdir=%s/work", tree, dir, dir))
	return dir + "/tree"
}

// boot boots the container and waits until systemd has started its units.
func (b *container) boot() {
	b.t.Helper()
	cmd := exec.Command("systemd-nspawn", b.args...)
	cmd.Stdout, cmd.Stderr = &b.output, &b.output
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if b.group != 0 {
		cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, b.group
	}
	over := make(chan struct{})
	started := make(chan error, 1)
	go func() { // Pdeathsig depends on the thread that started the process
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		if cmd.Process != nil {
			_ = cmd.Wait() // the output has its errors
			close(over)
		}
	}()
	if err := <-started; err != nil {
		b.t.Fatal(err)
	}
	b.pid, b.over = cmd.Process.Pid, over
	b.await("systemd has started", func() bool {
		select {
		case <-over:
			b.t.Fatalf("systemd-nspawn ended: %s", &b.output)
		default:
		}
		if b.leader = childOf(b.pid); b.leader == 0 {
			return false
		}
		out, _ := b.command("systemctl", "is-system-running").Output()
		state := strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
}

// reboot reboots the container with systemctl.
func (b *container) reboot() {
	b.t.Helper()
	b.must("systemctl", "--no-block", "reboot")
	b.await("the machine has ended", func() bool {
		select {
		case <-b.over:
			return true
		default:
			return b.group == 0 && childOf(b.pid) != b.leader // here systemd-nspawn itself boots it again
		}
	})
	b.cutPower()
	b.boot()
}

// cutPower kills the container and waits until all its processes have exited, since it
// shares the network with the next one.
func (b *container) cutPower() {
	if b.over == nil {
		return
	}
	select {
	case <-b.over: // its pid may be reused
	default:
		if b.leader != 0 {
			_ = syscall.Kill(b.leader, syscall.SIGKILL) // the kernel kills all processes in its pid namespace
		}
		_ = syscall.Kill(b.pid, syscall.SIGKILL)
		<-b.over
	}
	b.over = nil
	b.await("its systemd has exited, after all other processes", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.leader))
		return err != nil || strings.Contains(string(stat), ") Z ") // it may be a zombie
	})
}

// oneAtATime prevents two test runs from booting the same tree at once.
func oneAtATime(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		t.Log("another test run uses the tree; waiting for its end")
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
}

// ownCgroup creates a cgroup for a container, on a host without systemd, and removes it at
// the end.
func ownCgroup(t *testing.T) (fd int) {
	t.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified/cgroup.procs"); err == nil { // cgroup v1 and v2 side by side
		root += "/unified"
	}
	dir := filepath.Join(root, fmt.Sprintf("llmsup-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o600)
		eventually(patience, func() bool { return removeCgroup(dir) == nil })
	})
	return int(f.Fd())
}

// removeCgroup removes a cgroup and those below it. It fails while they have processes.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // it is removed already
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeCgroup(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// childOf returns the pid of a child that is a systemd; 0 = none yet.
func childOf(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		raw, _ := os.ReadFile(task)
		for field := range strings.FieldsSeq(string(raw)) {
			comm, _ := os.ReadFile("/proc/" + field + "/comm")
			if strings.TrimSpace(string(comm)) == "systemd" {
				child, _ := strconv.Atoi(field)
				return child
			}
		}
	}
	return 0
}

// command returns a command that runs in the container, as root.
func (b *container) command(args ...string) *exec.Cmd {
	enter := append([]string{"-t", strconv.Itoa(b.leader), "-m", "-u", "-i", "-p", "-C", "--"}, args...)
	cmd := exec.Command("nsenter", enter...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
	return cmd
}

// try runs a command in the container and returns its exit status and output.
func (b *container) try(args ...string) (status int, output string) {
	b.t.Helper()
	b.t.Logf("+ %s", strings.Join(args, " "))
	cmd := b.command(args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%q: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), strings.TrimSpace(string(out))
}

// must is try for a command that has to succeed.
func (b *container) must(args ...string) string {
	b.t.Helper()
	status, out := b.try(args...)
	if status != 0 {
		b.t.Fatalf("%q: exit %d: %s", args, status, out)
	}
	return out
}

// ask returns the output of a command that is polled, without a line in the test's log.
func (b *container) ask(args ...string) string {
	out, _ := b.command(args...).Output()
	return strings.TrimSpace(string(out))
}

// write writes a file in the container.
func (b *container) write(path, text string) {
	b.t.Helper()
	cmd := b.command("sh", "-c", `mkdir -p "${1%/*}" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("write %s: %v: %s", path, err, out)
	}
}

// patience is how long a test waits for something that must happen, even on a busy machine.
const patience = 3 * time.Minute

// await waits until a condition holds.
func (b *container) await(what string, ok func() bool) {
	b.t.Helper()
	began := time.Now()
	if !eventually(patience, ok) {
		b.t.Fatalf("not within %s: %s", patience, what)
	}
	if took := time.Since(began); took > time.Second {
		b.t.Logf("%s after %.1f s", what, took.Seconds())
	}
}

// with returns the container for a subtest.
func (b *container) with(t *testing.T) *container { return &container{t, b.machine} }

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}

// freePort returns a port of loopback that stays free while nothing listens on it: below those that the kernel chooses
// for connections.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		port := strconv.Itoa(12_000 + rand.IntN(18_000))
		var lc net.ListenConfig
		if l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}

// eventually polls ok until it returns true, and reports false if it does not within
// the limit. It is the only place where tests sleep.
func eventually(limit time.Duration, ok func() bool) bool {
	for began := time.Now(); time.Since(began) < limit; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok() // the test itself may not have run for seconds
}
