package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listener returns the TCP socket that systemd opened for this process (see
// llmsup.socket); nil = none. It removes systemd's variables from the environment, so it
// is called once, at the start. No child process inherits the socket.
//
// Close only stops accepting: systemd keeps the socket open, and new connections wait in
// its queue for the next process.
func Listener() (net.Listener, error) {
	const advice = "llmsup.socket must have one ListenStream=, an address and a port"
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil //nolint:nilnil // no socket is no error
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // the listener has its own descriptor
		}
	}()
	if len(files) > 1 {
		return nil, fmt.Errorf("systemd passed %d sockets; %s", len(files), advice)
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("systemd passed a file that is not a listening socket (%w); %s", err, advice)
	}
	if _, ok := l.(*net.TCPListener); !ok {
		_ = l.Close()
		return nil, fmt.Errorf("systemd passed a %s socket; %s", l.Addr().Network(), advice)
	}
	return l, nil
}
