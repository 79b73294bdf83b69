package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// errImpostor says that somebody else listens where llama-server should.
var errImpostor = errors.New("somebody else listens there")

// provenBy makes sure that it is the process, or one of its group, that listens
// at the endpoint: whoever else does would be given users' prompts. direct is
// false when it is another one of the group, as below a wrapper.
func (e Endpoint) provenBy(ctx context.Context, pid int) (direct bool, err error) {
	if e.Network == "unix" {
		return e.provenByPeer(ctx, pid)
	}
	_, portText, err := net.SplitHostPort(e.Address)
	if err != nil {
		return false, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return false, err
	}
	socket := "socket:[" + listenerInode(port) + "]"
	for _, member := range withMembers(pid) {
		if slices.Contains(openFiles(member), socket) {
			return member == pid, nil
		}
	}
	return false, fmt.Errorf("%w: %s", errImpostor, e.Address)
}

// provenByPeer asks the kernel who listens at the other end of a connection
// (SO_PEERCRED, unix(7)).
func (e Endpoint) provenByPeer(ctx context.Context, pid int) (direct bool, err error) {
	conn, err := (&net.Dialer{Timeout: probeAnswer}).DialContext(ctx, e.Network, e.Address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return false, fmt.Errorf("%s is no UNIX socket", e.Address)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false, err
	}
	var peer *unix.Ucred
	var askErr error
	if err := raw.Control(func(fd uintptr) { peer, askErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return false, err
	}
	if askErr != nil {
		return false, askErr
	}
	listener := int(peer.Pid)
	if listener != pid && processGroup(listener) != pid {
		return false, fmt.Errorf("%w: pid %d at %s", errImpostor, listener, e.Address)
	}
	return listener == pid, nil
}
