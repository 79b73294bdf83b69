package supervisor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// endpoint chooses where the next process listens: a UNIX socket where the
// build can (no port to lose, and nobody else can reach it), else a free
// loopback port.
func (s Spec) endpoint(f features) (Endpoint, error) {
	key := rand.Text() // 26 characters, at least 128 bits
	if path := s.socketPath(); f.unixSocket && path != "" {
		if err := clearSocket(path); err != nil {
			return Endpoint{}, err
		}
		return Endpoint{Network: "unix", Address: path, Key: key}, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return Endpoint{}, fmt.Errorf("find a free loopback port: %w", err)
	}
	defer l.Close()
	return Endpoint{Network: "tcp", Address: l.Addr().String(), Key: key}, nil
}

// clearSocket removes the socket that an earlier process left. What is not a
// socket, or is still listened on, is somebody's and stays.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket's place: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of llama-server's socket: move it away", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process listens on %s: end it, or pass another --state-dir", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look who listens on %s: %w", path, err)
	}
	return os.Remove(path)
}
