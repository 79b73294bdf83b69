package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is how long a UNIX socket's path may be on Linux, in bytes.
const maxSocketPath = 107

// Endpoint is where a running process listens. The zero value is nowhere.
type Endpoint struct {
	Network string // "unix" or "tcp", as net.Dial takes it
	Address string // a socket's path, or host:port
	Key     string // the API key that this process requires; secret; "" = it requires none
}

// Port returns the port; "" = it is a socket.
func (e Endpoint) Port() string {
	if e.Network != "tcp" {
		return ""
	}
	_, port, _ := net.SplitHostPort(e.Address) // NewEndpoint made it
	return port
}

// NewEndpoint chooses where the next process of a server will listen, and makes a
// key for it. dir is the server's folder; socket is the file name of a UNIX socket, "" for a program that cannot
// listen on one. A socket is preferred: no other process can take it, and other
// users cannot reach it. Where the folder's path is too long for one, the endpoint
// is a free loopback port.
func NewEndpoint(dir, socket string) (Endpoint, error) {
	key := rand.Text() // 26 characters, at least 128 bits
	if path := filepath.Join(dir, socket); socket != "" && len(path) <= maxSocketPath {
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

// clearSocket removes the socket of an earlier process. It leaves alone what is
// not a socket, and a socket that a process listens on.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check the server's socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way of the server's socket: move it away", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).Dial("unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("another process listens on %s: end it, or pass another --state-dir", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("check which process listens on %s: %w", path, err)
	}
	return os.Remove(path)
}
