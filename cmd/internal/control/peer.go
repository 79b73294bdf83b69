package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// groupName is the group whose members may control llmsup, if it exists. It is a variable
// for tests only.
var groupName = "llmsup"

// group returns the id of the group that the socket is for; -1 = there is none.
func group() int {
	g, err := user.LookupGroup(groupName)
	if err != nil {
		return -1
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return id
}

// peer is the user and group of the process at the other end of the socket, from the
// kernel (SO_PEERCRED, unix(7)).
type peer struct {
	uid, gid int
}

type peerKey struct{}

// operatorKey is that of the name of an operator in the context of requests.
type operatorKey struct{}

// AsOperator returns a context for requests of an operator at another box, which that box has
// authorized. by is the operator's name, for the log.
func AsOperator(ctx context.Context, by string) context.Context {
	return context.WithValue(ctx, operatorKey{}, by)
}

var errNoPeer = errors.New("the kernel does not report the user of this connection")

// WithPeer adds the peer of a connection to the context of its requests. It is an
// http.Server's ConnContext.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	if p, err := peerOf(conn); err == nil {
		return context.WithValue(ctx, peerKey{}, p)
	}
	return ctx
}

func peerOf(conn net.Conn) (peer, error) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return peer{}, errNoPeer
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var askErr error
	err = raw.Control(func(fd uintptr) { cred, askErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, askErr); err != nil {
		return peer{}, err
	}
	return peer{int(cred.Uid), int(cred.Gid)}, nil
}

// authorizeChange returns an error unless the client may change something: root, the user
// that llmsup runs as, and members of the group may. Every user who can open the socket
// may read.
func authorizeChange(r *http.Request) error {
	if _, ok := r.Context().Value(operatorKey{}).(string); ok {
		return nil
	}
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return errNoPeer
	}
	return p.authorizeChange(os.Geteuid(), group(), groupsOf)
}

func (p peer) authorizeChange(own, group int, groupsOf func(uid int) []int) error {
	if p.uid == 0 || p.uid == own || group >= 0 && (p.gid == group || slices.Contains(groupsOf(p.uid), group)) {
		return nil
	}
	if group < 0 {
		return fmt.Errorf("user %d has read-only access: run the command as root or as the user that llmsup runs as", p.uid)
	}
	return fmt.Errorf("user %d has read-only access: run the command as root, or as a member of the group %s", p.uid, groupName)
}

// groupsOf returns the groups that a user is a member of.
func groupsOf(uid int) (ids []int) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return nil
	}
	names, err := u.GroupIds()
	if err != nil {
		return nil
	}
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}
