package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxPath is how long a UNIX socket's path may be on Linux, in bytes.
const maxPath = 107

// Listener is the daemon's end of the control socket.
type Listener struct {
	net.Listener
	path   string
	info   os.FileInfo // of the socket as it was made
	unlock func()
}

// Listen makes the control socket. Only its owner can open it, from its first
// instant. A socket that somebody listens on is never taken over, and nothing
// but a dead socket is ever removed.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath-len(tempSuffix) {
		return nil, fmt.Errorf("control socket %s: the path is longer than the %d bytes that a socket may have; pass a shorter one with --control-socket",
			path, maxPath-len(tempSuffix))
	}
	if err := ownDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("control socket %s: %w; pass another path with --control-socket", path, err)
	}
	// The lock keeps two daemons from clearing the place for each other.
	unlock, holder, err := lockFile(path + ".lock")
	if errors.Is(err, errHeld) {
		return nil, fmt.Errorf("control socket %s: llmsup%s answers there; stop it, or pass another path with --control-socket", path, holder)
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
	return l, nil
}

const tempSuffix = ".new"

func listenLocked(path string) (*Listener, error) {
	if err := clear(path); err != nil {
		return nil, err
	}
	temp := path + tempSuffix
	if err := clear(temp); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	inner, err := lc.Listen(context.Background(), "unix", temp)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	inner.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is what "unix" gives
	l := &Listener{Listener: inner, path: path}
	// Under its final name the socket has its final mode from the start.
	if err = os.Chmod(temp, 0o600); err == nil {
		if l.info, err = os.Lstat(temp); err == nil {
			err = os.Rename(temp, path)
		}
	}
	if err != nil {
		_ = inner.Close()
		_ = os.Remove(temp)
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

// Close stops listening and removes the socket, if it is still this one.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if now, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(now, l.info) {
		_ = os.Remove(l.path)
	}
	if l.unlock != nil {
		l.unlock()
		l.unlock = nil
	}
	return err
}

// clear removes a socket that nobody listens on.
func clear(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket %s: a file that is no socket is in its place; move it away, or pass another path with --control-socket", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("control socket %s: another program answers there; stop it, or pass another path with --control-socket", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s: look who listens there: %w", path, err)
	}
	return os.Remove(path)
}

// ownDir makes a folder for this user alone, if there is none. One in a place
// where all can write has to be this user's.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() && strings.HasPrefix(dir, os.TempDir()+"/") {
		return fmt.Errorf("the folder %s belongs to another user", dir)
	}
	return nil
}
