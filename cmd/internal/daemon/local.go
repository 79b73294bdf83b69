package daemon

import (
	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/supervisor"
)

// local shows a supervised server to the router: process health becomes a
// reason to go elsewhere, or none.
type local struct {
	server *supervisor.Server
	tenant *tenant
}

// sameStreams says whether a llama-server with these flags says the same in a
// stream as in a whole answer.
func sameStreams(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--reasoning-format", "-r", "--reverse-prompt":
			return false
		}
	}
	return true
}

// State implements router.Local.
func (l local) State() router.LocalState {
	now := l.server.Snapshot()
	s := router.LocalState{
		Alive:   now.State.Alive(),
		Network: now.Endpoint.Network, Address: now.Endpoint.Address, Key: now.Endpoint.Key,
		Gone: now.Gone, Hung: now.Hung, Slots: now.Slots, Changed: now.Changed, Streams: l.tenant.streams.Load(),
	}
	if s.Reason = reasonOf(now.State); s.Reason != "" {
		s.Detail = "is " + now.State.String()
		if now.Reason != "" {
			s.Detail += ": " + now.Reason
		}
	}
	return s
}

// reasonOf says why a server in some state gets no calls; "" when it gets them.
func reasonOf(state supervisor.State) router.Reason {
	switch state {
	case supervisor.Ready:
		return ""
	case supervisor.Degraded:
		return router.Degraded
	case supervisor.Starting:
		return router.Starting
	case supervisor.Loading:
		return router.Loading
	case supervisor.Restarting:
		return router.Restarting
	case supervisor.Draining:
		return router.Draining
	case supervisor.Drained, supervisor.Stopped: // both are stopped on purpose
		return router.Drained
	case supervisor.Failed:
		return router.Failed
	}
	return router.Failed
}
