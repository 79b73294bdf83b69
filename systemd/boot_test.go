package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// box is a Debian that a test has booted, with a systemd of its own. It shares
// the machine's network, so what listens on loopback here is there too. What it
// writes outlives a reboot, and is gone with it.
type box struct {
	t *testing.T
	*machine
}

// machine is what a box runs on.
type machine struct {
	name   string
	args   []string // of systemd-nspawn
	group  int      // the descriptor of the cgroup for it; 0 = the machine's own systemd makes one
	output bytes.Buffer
	leader int           // the pid of its systemd, out here
	pid    int           // of systemd-nspawn
	over   chan struct{} // closed when that has ended
}

// bootBox boots one. src are folders that are shown in it, read-only.
func bootBox(t *testing.T, src map[string]string) *box {
	t.Helper()
	out, err := exec.Command("../scripts/systemd-tree.sh").Output()
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
	if _, err := os.Stat("/run/systemd/system"); err != nil { // else the machine's own systemd makes a scope for it
		m.args = append([]string{"--keep-unit"}, m.args...)
		m.group = ownCgroup(t)
	}
	b := &box{t, m}
	t.Cleanup(func() {
		b.cutPower()
		_ = os.Remove("/run/systemd/nspawn/propagate/" + m.name) // an empty folder, which it leaves when it is killed
	})
	b.boot()
	return b
}

// writable returns a folder with what is in a tree, which can be changed, and
// the tree is not.
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

// boot boots the machine, and waits until that is done.
func (b *box) boot() {
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
	go func() { // Pdeathsig follows the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		if cmd.Process != nil {
			_ = cmd.Wait() // what it says is in its output
			close(over)
		}
	}()
	if err := <-started; err != nil {
		b.t.Fatal(err)
	}
	b.pid, b.over = cmd.Process.Pid, over
	b.await("systemd has started", 60*time.Second, func() bool {
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

// reboot has the machine end in an orderly way, and boots it again.
func (b *box) reboot() {
	b.t.Helper()
	b.must("systemctl", "--no-block", "reboot")
	b.await("the machine has ended", 90*time.Second, func() bool {
		select {
		case <-b.over:
			return true
		default:
			return b.group == 0 && childOf(b.pid) != b.leader // then systemd-nspawn boots it anew by itself
		}
	})
	b.cutPower()
	b.boot()
}

// cutPower ends the machine at once, and waits until nothing of it is left: it
// shares the network with the next one.
func (b *box) cutPower() {
	if b.over == nil {
		return
	}
	select {
	case <-b.over: // its pid may be another's
	default:
		if b.leader != 0 {
			_ = syscall.Kill(b.leader, syscall.SIGKILL) // and the kernel ends all that is below it
		}
		_ = syscall.Kill(b.pid, syscall.SIGKILL)
		<-b.over
	}
	b.over = nil
	b.await("its systemd has ended, and all others before it", 20*time.Second, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.leader))
		return err != nil || strings.Contains(string(stat), ") Z ") // nobody may have waited for it
	})
}

// oneAtATime keeps two runs of the tests from booting one tree at once.
func oneAtATime(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		t.Log("another run of this test has the tree booted; waiting for its end")
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
}

// ownCgroup makes a cgroup for a container, on a machine that no systemd runs,
// and takes it away at the end.
func ownCgroup(t *testing.T) (fd int) {
	t.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified/cgroup.procs"); err == nil { // the old layout beside the new one
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
		deadline := time.Now().Add(10 * time.Second)
		for removeCgroup(dir) != nil && time.Now().Before(deadline) {
			time.Sleep(50 * time.Millisecond)
		}
	})
	return int(f.Fd())
}

// removeCgroup removes a cgroup and those below it, which takes their being
// empty.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil //nolint:nilerr // it is gone
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

// childOf returns a child that is a systemd; 0 = there is none yet.
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

// command is one that runs in the box, as root.
func (b *box) command(args ...string) *exec.Cmd {
	enter := append([]string{"-t", strconv.Itoa(b.leader), "-m", "-u", "-i", "-p", "-C", "--"}, args...)
	cmd := exec.Command("nsenter", enter...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
	return cmd
}

// try runs a command in the box, and returns its exit status and all that it
// printed.
func (b *box) try(args ...string) (status int, output string) {
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

// must is try for what has to work.
func (b *box) must(args ...string) string {
	b.t.Helper()
	status, out := b.try(args...)
	if status != 0 {
		b.t.Fatalf("%q: exit %d: %s", args, status, out)
	}
	return out
}

// ask is must without a line in the log: for what is asked again and again.
func (b *box) ask(args ...string) string {
	out, _ := b.command(args...).Output()
	return strings.TrimSpace(string(out))
}

// write puts a file into the box.
func (b *box) write(path, text string) {
	b.t.Helper()
	cmd := b.command("sh", "-c", `mkdir -p "${1%/*}" && cat >"$1"`, "sh", path)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("write %s: %v: %s", path, err, out)
	}
}

// await waits until something is so.
func (b *box) await(what string, within time.Duration, ok func() bool) {
	b.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > within {
			b.t.Fatalf("within %s it was not so that %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took > time.Second {
		b.t.Logf("%s after %.1f s", what, took.Seconds())
	}
}

// with is the box for a part of the test.
func (b *box) with(t *testing.T) *box { return &box{t, b.machine} }

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(exit.Stderr)
	}
	return ""
}

// freePort is one of loopback that nobody has.
func freePort(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
