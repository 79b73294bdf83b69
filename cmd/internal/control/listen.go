package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is how long a UNIX socket's path may be on Linux, in bytes.
const maxPath = 107

func tooLong(path string) error {
	return fmt.Errorf("control socket %s: the path is longer than the %d bytes that a socket may have; pass a shorter one with --control-socket", path, maxPath)
}

// Listener is the daemon's end of the control socket.
type Listener struct {
	net.Listener
	path   string
	info   os.FileInfo // of the socket as it was made
	unlock func()
	close  func() error
}

// Listen makes the control socket. From its first instant only its owner can open
// it and, where there is such a group and its owner may say so, the group llmsup. A
// socket that somebody listens on is never taken over, and nothing
// but a dead socket is ever removed.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, tooLong(path)
	}
	if err := makeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	// The lock keeps two daemons from clearing the place for each other.
	unlock, holder, err := lockFile(path + ".lock")
	if errors.Is(err, ErrHeld) {
		return nil, fmt.Errorf("control socket %s: another llmsup%s answers there; stop it, or pass another path with --control-socket", path, holder)
	}
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	l, err := listenLocked(path)
	if err != nil {
		unlock()
		return nil, err
	}
	l.unlock = unlock
	l.close = sync.OnceValue(l.closeOnce)
	return l, nil
}

func listenLocked(path string) (*Listener, error) {
	if err := clear(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: ownerOnly}
	inner, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if unixListener, ok := inner.(*net.UnixListener); ok {
		unixListener.SetUnlinkOnClose(false) // Close looks first whose socket it is
	}
	// The group comes before its rights: else they would be another group's for a
	// moment.
	if id := group(); id >= 0 && give(path, id) {
		err = os.Chmod(path, 0o660) //nolint:gosec // for the group that it is for
	}
	info, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err == nil && info.Mode().Perm()&^0o060 != 0o600 {
		err = fmt.Errorf("its mode is %v, and not 0600", info.Mode().Perm())
	}
	if err != nil {
		_ = inner.Close()
		_ = os.Remove(path)
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &Listener{Listener: inner, path: path, info: info}, nil
}

// makeSocketDir makes the folder of a socket if there is none: for its owner alone
// and, where there is such a group, for the group llmsup to pass.
func makeSocketDir(dir string) error {
	_, err := os.Stat(dir)
	if err := MakeDir(dir); err != nil {
		return err
	}
	if id := group(); errors.Is(err, fs.ErrNotExist) && id >= 0 && give(dir, id) {
		return os.Chmod(dir, 0o710) //nolint:gosec // the group may pass, and not look around
	}
	return nil
}

// give makes a file a group's, and says whether it is. Who works as the group
// already need not be allowed to: the systemd unit's system calls do not have chown.
func give(path string, id int) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Gid) == id {
		return true
	}
	return os.Lchown(path, -1, id) == nil
}

// ownerOnly gives a socket its mode before it has a name: Linux makes the file
// with it, so there is no instant in which others could open it, whatever the
// umask.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmodErr)
}

// Close stops listening and removes the socket, if it is still this one. It may
// be called more than once: an http.Server closes its listener too.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) closeOnce() error {
	err := l.Listener.Close()
	if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	l.unlock()
	return err
}

// clear removes a socket that nobody listens on.
func clear(path string) error {
	dead, err := lookAt(path)
	if err != nil || !dead {
		return err
	}
	return os.Remove(path)
}

// lookAt says whether a dead socket stands at path. What must not be replaced
// is an error.
func lookAt(path string) (dead bool, err error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("control socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("control socket %s: a file that is no socket is in its place; move it away, or pass another path with --control-socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return false, fmt.Errorf("control socket %s: another program answers there; stop it, or pass another path with --control-socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false, fmt.Errorf("control socket %s: look who listens there: %w", path, err)
	}
	return true, nil
}
