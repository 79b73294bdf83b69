package systemd

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listener returns the TCP socket that systemd has opened for this process (see
// llmsup.socket), nil where it has opened none. It takes what tells of it out of
// the environment, and no child inherits it. It is called once, at the start.
//
// To close it is to stop accepting, and no more: systemd keeps the socket, and
// who connects meanwhile waits in its queue for the next process.
func Listener() (net.Listener, error) {
	const mend = "llmsup.socket wants one ListenStream=, of an address and a port"
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, nil //nolint:nilnil // no socket is no error
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // the listener has a descriptor of its own
		}
	}()
	if len(files) > 1 {
		return nil, fmt.Errorf("systemd passes %d sockets; %s", len(files), mend)
	}
	l, err := net.FileListener(files[0])
	if err != nil {
		return nil, fmt.Errorf("systemd passes something that can't be listened on (%w); %s", err, mend)
	}
	if _, ok := l.(*net.TCPListener); !ok {
		_ = l.Close()
		return nil, fmt.Errorf("systemd passes a socket of %s; %s", l.Addr().Network(), mend)
	}
	return l, nil
}
