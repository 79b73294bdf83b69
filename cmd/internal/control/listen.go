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

// maxPath limits a UNIX socket's path on Linux, in bytes.
const maxPath = 107

func pathTooLong(path string) error {
	return fmt.Errorf("control socket %s: the path is longer than %d bytes; pass a shorter one with --control-socket", path, maxPath)
}

// Listener listens on the control socket.
type Listener struct {
	net.Listener
	path   string
	info   os.FileInfo // of the socket when it was created
	unlock func()
	close  func() error
}

// Listen creates the control socket. From the start only its owner can open it and, if
// that group exists and the owner may set it, the group llmsup. Listen never takes over a
// socket that a process listens on, and removes nothing but a dead socket.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, pathTooLong(path)
	}
	if err := makeSocketDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	// Without the lock, two daemons could remove each other's socket.
	unlock, holder, err := lockFile(path + ".lock")
	if errors.Is(err, ErrLocked) {
		return nil, fmt.Errorf("control socket %s: another llmsup%s listens there; stop it, or pass another path with --control-socket", path, holder)
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
	if err := removeDeadSocket(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: ownerOnly}
	inner, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	if unixListener, ok := inner.(*net.UnixListener); ok {
		unixListener.SetUnlinkOnClose(false) // Close checks first that it is this socket
	}
	// First the group, then its rights: they would be another group's for a moment.
	if id := group(); id >= 0 && chgrp(path, id) {
		err = os.Chmod(path, 0o660) //nolint:gosec // the group is meant to have access
	}
	info, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err == nil && info.Mode().Perm()&^0o060 != 0o600 {
		err = fmt.Errorf("its mode is %v instead of 0600", info.Mode().Perm())
	}
	if err != nil {
		_ = inner.Close()
		_ = os.Remove(path)
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &Listener{Listener: inner, path: path, info: info}, nil
}

// makeSocketDir creates the directory of a socket if there is none. Only its owner has
// access, and the group llmsup, if it exists, may traverse it.
func makeSocketDir(dir string) error {
	_, err := os.Stat(dir)
	if err := MakeDir(dir); err != nil {
		return err
	}
	if id := group(); errors.Is(err, fs.ErrNotExist) && id >= 0 && chgrp(dir, id) {
		return os.Chmod(dir, 0o710) //nolint:gosec // the group may traverse it, but not list it
	}
	return nil
}

// chgrp gives a file to a group, and reports whether it has that group. A file that has
// it already is left alone: the systemd unit does not allow the system call chown.
func chgrp(path string, id int) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Gid) == id {
		return true
	}
	return os.Lchown(path, -1, id) == nil
}

// ownerOnly sets a socket's mode before it has a name. Linux creates the file with that
// mode, so others cannot open it at any moment, whatever the umask.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmodErr)
}

// Close stops listening and removes the socket, if it is still this one. It may be called
// more than once: an http.Server also closes its listener.
func (l *Listener) Close() error { return l.close() }

func (l *Listener) closeOnce() error {
	err := l.Listener.Close()
	if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	l.unlock()
	return err
}

// removeDeadSocket removes a socket on which no process listens.
func removeDeadSocket(path string) error {
	dead, err := isDeadSocket(path)
	if err != nil || !dead {
		return err
	}
	return os.Remove(path)
}

// isDeadSocket reports whether there is a dead socket at path. It returns an error if
// something else is there.
func isDeadSocket(path string) (dead bool, err error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("control socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return false, fmt.Errorf("control socket %s: there is another file at this path; move it away, or pass another path with --control-socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return false, fmt.Errorf("control socket %s: another program listens there; stop it, or pass another path with --control-socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false, fmt.Errorf("control socket %s: check who listens there: %w", path, err)
	}
	return true, nil
}
