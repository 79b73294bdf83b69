package control

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// withGroup has the socket belong to another group than llmsup for a test.
func withGroup(t *testing.T, name string) {
	t.Helper()
	was := groupName
	groupName = name
	t.Cleanup(func() { groupName = was })
}

// TestListenGroup: only its members may open the socket.
func TestListenGroup(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	own, err := user.LookupGroupId(strconv.Itoa(os.Getegid()))
	if err != nil {
		t.Fatal(err)
	}
	withGroup(t, own.Name)
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "c.sock")
	mustListen(t, path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Gid) != os.Getegid() {
		t.Errorf("it is for the group %d", stat.Gid)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o710 {
		t.Errorf("its folder is %v, %v", info.Mode(), err)
	}
	shared := filepath.Join(t.TempDir(), "c.sock") // a folder that was there is left as it is
	mustListen(t, shared)
	if info, err := os.Stat(filepath.Dir(shared)); err != nil || info.Mode().Perm() == 0o710 {
		t.Errorf("the existing folder is %v, %v", info.Mode(), err)
	}
}

func TestListen(t *testing.T) {
	withGroup(t, "no such group")
	// Without a umask only Listen itself keeps others out.
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "c.sock")
	l := mustListen(t, path)

	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder is %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(path + ".lock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its lock is %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket stayed")
	}
	mustListen(t, path) // the lock was given back
}

func TestListenErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		occupy func(t *testing.T, path string)
		want   string
	}{
		"a daemon": {
			func(t *testing.T, path string) { mustListen(t, path) },
			fmt.Sprintf("another llmsup (pid %d) listens there; stop it, or pass another path with --control-socket", os.Getpid()),
		},
		"another program": {func(t *testing.T, path string) { listenUnix(t, path) }, "another program listens there; stop it"},
		"a file":          {func(t *testing.T, path string) { write(t, path) }, "there is another file at this path; move it away"},
		"a link": {func(t *testing.T, path string) {
			listenUnix(t, path+"2")
			if err := os.Symlink(path+"2", path); err != nil {
				t.Fatal(err)
			}
		}, "there is another file at this path"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "there is another file at this path"},
		"a link for a lock": {func(t *testing.T, path string) {
			if err := os.Symlink(path+"2", path+".lock"); err != nil {
				t.Fatal(err)
			}
			write(t, path)
		}, "too many levels of symbolic links"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.sock")
			tc.occupy(t, path)
			was, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Listen(path)
			if err == nil {
				_ = l.Close()
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "control socket "+path+": ") {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if now, err := os.Lstat(path); err != nil || !os.SameFile(was, now) {
				t.Errorf("what was there is gone: %v", err)
			}
			if was.Mode().Type() == fs.ModeSocket {
				dial(t, path)
			}
		})
	}
}

func TestListenReplacesDeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	dead := listenUnix(t, path)
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	mustListen(t, path)
	dial(t, path)
}

func TestListenConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	const racers = 20
	var wg sync.WaitGroup
	listeners, errs := make([]*Listener, racers), make([]error, racers)
	for i := range racers {
		wg.Go(func() { listeners[i], errs[i] = Listen(path) })
	}
	wg.Wait()
	won := 0
	for i, l := range listeners {
		if l != nil {
			won++
			defer l.Close()
		} else if !strings.Contains(errs[i].Error(), "another llmsup") {
			t.Error(errs[i])
		}
	}
	if won != 1 {
		t.Errorf("%d have the socket", won)
	}
	dial(t, path)
}

func TestListenOnLongPaths(t *testing.T) {
	dir := t.TempDir()
	fits := filepath.Join(dir, strings.Repeat("x", maxPath-len(dir)-1))
	mustListen(t, fits)
	dial(t, fits)
	if _, err := Listen(fits + "x"); err == nil || !strings.Contains(err.Error(), "longer than 107 bytes") {
		t.Errorf("one byte more: %v", err)
	}
}

func TestCloseKeepsAnotherSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	l := mustListen(t, path)
	// Somebody has put a socket of their own in its place. It is made before the
	// old one goes, so that they cannot have one inode.
	listenUnix(t, path+"2")
	if err := os.Rename(path+"2", path); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	dial(t, path)
}

func TestListenInDirectoryOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // only root can give a folder away
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	for name, take := range map[string]func() error{
		"socket": func() error { _, err := Listen(filepath.Join(dir, "c.sock")); return err },
		"state":  func() error { _, err := LockStateDir(dir); return err },
	} {
		if err := take(); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustListen(t *testing.T, path string) *Listener {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func listenUnix(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial fails the test if no process listens.
func dial(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Errorf("no process listens: %v", err)
		return
	}
	_ = conn.Close()
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}
