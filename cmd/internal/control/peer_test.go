package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAuthorizeChange(t *testing.T) {
	const own, llmsup = 990, 980
	members := func(uid int) []int { return map[int][]int{1000: {1000, llmsup}, 1001: {1001, 27}}[uid] }
	for name, tc := range map[string]struct {
		peer  peer
		group int
		may   bool
	}{
		"root":                         {peer{0, 0}, llmsup, true},
		"the daemon's own user":        {peer{own, own}, llmsup, true},
		"a member of the group":        {peer{1000, 1000}, llmsup, true},
		"one who works as the group":   {peer{1001, llmsup}, llmsup, true},
		"another user":                 {peer{1001, 1001}, llmsup, false},
		"an unknown user":              {peer{4242, 4242}, llmsup, false},
		"root, without a group":        {peer{0, 0}, -1, true},
		"a member of no group at all":  {peer{1000, 1000}, -1, false},
		"the group of those without":   {peer{1001, -1}, -1, false},
		"own user, without a group":    {peer{own, 1}, -1, true},
		"another user in own group id": {peer{1001, own}, llmsup, false},
	} {
		err := tc.peer.authorizeChange(own, tc.group, members)
		if (err == nil) != tc.may {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "group") != (tc.group >= 0) {
			t.Errorf("%s: what to do: %v", name, err)
		}
	}
}

// TestPeerCredentials: the kernel's word counts, over a real socket, and where there is
// none nobody may give orders.
func TestPeerCredentials(t *testing.T) {
	path := serve(t, NewHandler(source{}, "v1"))
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p, err := peerOf(conn); err != nil || p.uid != os.Geteuid() || p.gid != os.Getegid() {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := peerOf(nil); err == nil {
		t.Errorf("of no connection: %+v", p)
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://llmsup/v1/restart", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := authorizeChange(r); err == nil {
		t.Error("a connection without credentials may change something")
	}
}

// TestOtherUserIsReadOnly: another user, who can open the socket since an
// operator has opened it to all. To be another user takes root.
func TestOtherUserIsReadOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "to be another user takes root")
	}
	dir, err := os.MkdirTemp("", "llmsup") //nolint:usetesting // t.TempDir is for its owner alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "c.sock")
	serveAt(t, path, NewHandler(source{}, "v1"))
	for _, p := range []string{dir, path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	c := NewClient(path)
	c.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return dialAs(nobody, path)
	}}
	if s, err := c.Status(t.Context()); err != nil || s.Version != "v1" {
		t.Errorf("%+v, %v", s, err)
	}
	nothing := func(Step) error { return nil }
	_, err = c.Restart(t.Context(), nil)
	_, cancelErr := c.CancelCall(t.Context(), "a:1")
	for what, err := range map[string]error{
		"restart": err, "drain": c.Drain(t.Context(), DrainRequest{Yes: true}, nothing), "resume": c.Resume(t.Context(), nil, nothing), "cancel": cancelErr,
	} {
		if err == nil || !strings.Contains(err.Error(), "user 65534 has read-only access") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// dialAs opens a socket as another user: the kernel keeps who was at its end when
// it was connected. Only this thread is that user, and only for so long.
func dialAs(uid int, path string) (net.Conn, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	const same = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
		return nil, errno
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 0, same); errno != 0 {
		panic(errno) // this thread cannot be used any more
	}
	if err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// notRun ends a test that this user cannot run, and has scripts/test.sh name it.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(f, "%s: %s\n", t.Name(), why)
		_ = f.Close()
	}
	t.Skip("not run: " + why)
}
