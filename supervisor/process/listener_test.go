package process

import (
	"errors"
	"net"
	"os"
	"testing"
)

// TestVerifyListener: only the process and its group count as the listener.
func TestVerifyListener(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	dir, err := os.MkdirTemp("", "llmsup") //nolint:usetesting // t.TempDir's path may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	unixSocket, err := net.Listen("unix", dir+"/x.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer unixSocket.Close()
	all, err := net.Listen("tcp", ":0") // of IPv6, and takes connections of IPv4
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()

	self, other := os.Getpid(), sleeper(t).Process.Pid
	for name, tc := range map[string]struct {
		network, address string
		pid              int
		direct           bool
		foreign          bool
	}{
		"own port":           {"tcp", tcp.Addr().String(), self, true, false},
		"own port of both":   {"tcp", all.Addr().String(), self, true, false},
		"own socket":         {"unix", unixSocket.Addr().String(), self, true, false},
		"another's port":     {"tcp", tcp.Addr().String(), other, false, true},
		"another's socket":   {"unix", unixSocket.Addr().String(), other, false, true},
		"no process listens": {"tcp", free.Addr().String(), self, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			direct, err := VerifyListener(t.Context(), tc.network, tc.address, tc.pid, "")
			if direct != tc.direct || errors.Is(err, ErrForeignListener) != tc.foreign || !tc.foreign && err != nil {
				t.Errorf("direct %t, error %v; want %t, and ErrForeignListener: %t", direct, err, tc.direct, tc.foreign)
			}
		})
	}
	if _, err := VerifyListener(t.Context(), "unix", dir+"/none.sock", self, ""); err == nil || errors.Is(err, ErrForeignListener) {
		t.Errorf("without a socket: %v", err)
	}
}
