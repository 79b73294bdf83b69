package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrForeignListener says that another process than the expected one listens at
// an address.
var ErrForeignListener = errors.New("another process is listening on this address")

// dialTimeout bounds the connection to a UNIX socket that VerifyListener checks.
const dialTimeout = 2 * time.Second

// VerifyListener verifies that a process, one of the group that it leads, or one with
// its token, listens at an address: any other process there would receive users' prompts.
// network is "unix" or "tcp". direct is false when another one than the process
// itself listens, as below a wrapper script.
func VerifyListener(ctx context.Context, network, address string, pid int, token string) (direct bool, err error) {
	if network == "unix" {
		return verifyPeer(ctx, address, pid)
	}
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return false, err
	}
	if inode := listenerInode(port); inode != "" {
		socket := "socket:[" + inode + "]"
		for _, member := range append(Group(pid), marked(token)...) {
			if slices.Contains(openFiles(member), socket) {
				return member == pid, nil
			}
		}
	}
	return false, fmt.Errorf("%w: %s", ErrForeignListener, address)
}

// verifyPeer asks the kernel which process is at the other end of a connection
// (SO_PEERCRED, unix(7)).
func verifyPeer(ctx context.Context, path string, pid int) (direct bool, err error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return false, err
	}
	if peerErr != nil {
		return false, peerErr
	}
	listener := int(peer.Pid)
	if listener != pid && groupOf(listener) != pid {
		return false, fmt.Errorf("%w: pid %d at %s", ErrForeignListener, listener, path)
	}
	return listener == pid, nil
}

// listenerInode returns the inode of the TCP socket that accepts connections to a loopback
// port of IPv4; "" = no process listens there. procfs has a parser for these files, but
// deprecates it in favour of netlink, which takes more code than these lines.
func listenerInode(port uint64) string {
	const listening = "0A"
	var addresses []string
	for _, host := range listeningHosts {
		addresses = append(addresses, fmt.Sprintf("%s:%04X", host, port))
	}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(raw)) {
			f := strings.Fields(line)
			if len(f) > 9 && slices.Contains(addresses, f[1]) && f[3] == listening {
				return f[9]
			}
		}
	}
	return ""
}

// listeningHosts are 127.0.0.1 and 0.0.0.0 as numbers of the kernel's byte order, and
// ::ffff:127.0.0.1 and ::, at which connections of IPv4 arrive as well.
var listeningHosts = []string{
	"0100007F", "00000000", "0000000000000000FFFF00000100007F", "00000000000000000000000000000000",
}
