package boxes

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/router/request"
)

// Box is another box of the fleet, as it was last heard of.
type Box struct {
	Name     string
	Instance string // of its process
	Address  string // base URL
	Hop      string // what authenticates this box's calls there, for PeerBox
	Seq      uint64 // of its last announcement; 0 = unknown
	Servers  map[string]PeerState
}

// Fleet is the present state of the fleet. The zero value is that of a box in none.
type Fleet struct {
	Name   string                       // of this box
	Boxes  []Box                        // the others, sorted by name
	TLS    *tls.Config                  // for boxes at https addresses; nil = the system's certificates
	Verify func(from, code string) bool // whether a code is that of a box for its calls here; nil = no calls are accepted
	Alone  bool                         // no news of the other boxes comes: the connection to NATS is lost
}

// Registry has the servers on other boxes. It is safe for concurrent use, and its readers wait
// for nothing. The zero value is that of a box in no fleet.
type Registry struct {
	present atomic.Pointer[present]

	mu    sync.Mutex // guards a replacement of present
	boxes map[identity]*box
}

// present is what readers see. It is immutable.
type present struct {
	byServer map[string][]*Peer // sorted by the names of their boxes
	servers  []string           // names of all servers that other boxes have, or had since this box joined, sorted
	name     string             // of this box
	verify   func(from, code string) bool
}

// identity is that of a process of llmsup at an address, and of how it is called.
type identity struct {
	name, instance, address, hop string
	tls                          *tls.Config
}

// box is a box that is in the fleet.
type box struct {
	PeerBox

	gone  chan struct{}
	seq   uint64           // of the last announcement
	peers map[string]*Peer // by server
}

// Servers returns the servers of a name on other boxes, sorted by the names of the boxes. The
// list must not be changed.
func (r *Registry) Servers(name string) []*Peer {
	if p := r.present.Load(); p != nil {
		return p.byServer[name]
	}
	return nil
}

// ServerNames returns the names of all servers that other boxes of the fleet have, sorted. A name
// stays when its box is gone: a call for it has to be sent again later, and is not wrong. The list
// must not be changed.
func (r *Registry) ServerNames() []string {
	if r == nil {
		return nil
	}
	if p := r.present.Load(); p != nil {
		return p.servers
	}
	return nil
}

// Usable reports whether a server on another box accepts calls.
func (r *Registry) Usable(server string) bool {
	return r != nil && slices.ContainsFunc(r.Servers(server), func(p *Peer) bool { return p.Availability().Usable() })
}

// Name returns the name of this box; "" = it is in no fleet.
func (r *Registry) Name() string {
	if p := r.present.Load(); p != nil {
		return p.name
	}
	return ""
}

// Verify reports whether a code is that of a box of the fleet for its calls here.
func (r *Registry) Verify(from, code string) bool {
	p := r.present.Load()
	return p != nil && p.verify != nil && p.verify(from, code)
}

// Set replaces the state of the fleet. Calls that wait for a box which is no longer in it move
// on, unless this box is alone. Those that the box answers already go on.
func (r *Registry) Set(f Fleet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &present{byServer: map[string][]*Peer{}, name: f.Name, verify: f.Verify}
	boxes := map[identity]*box{}
	for i := range f.Boxes {
		announced := &f.Boxes[i]
		id := identity{announced.Name, announced.Instance, announced.Address, announced.Hop, f.TLS}
		b := r.boxes[id]
		if b == nil {
			if b = newBox(announced, f.TLS); b == nil {
				continue
			}
		}
		boxes[id] = b
		b.update(announced)
		for server, peer := range b.peers {
			next.byServer[server] = append(next.byServer[server], peer)
		}
	}
	if f.Name != "" { // else this box has left the fleet
		next.servers = withNames(r.ServerNames(), next.byServer)
	}
	r.present.Store(next)
	for id, b := range r.boxes {
		if boxes[id] != nil {
			continue
		}
		b.Transport.CloseIdleConnections()
		if !f.Alone {
			close(b.gone)
		}
	}
	r.boxes = boxes
}

// withNames returns sorted names, and those of servers that are not among them.
func withNames(names []string, servers map[string][]*Peer) []string {
	all := names
	for name := range servers {
		if _, known := slices.BinarySearch(names, name); !known {
			all = append(slices.Clip(all), name)
		}
	}
	if len(all) > len(names) {
		slices.Sort(all)
	}
	return all
}

// update takes over the states of a box's servers, unless it has done so already: calls that were
// sent there since are counted beside them.
func (b *box) update(announced *Box) {
	if announced.Seq != 0 && announced.Seq == b.seq {
		return
	}
	b.seq = announced.Seq
	servers := announced.Servers
	for name := range b.peers {
		if _, still := servers[name]; !still {
			delete(b.peers, name)
		}
	}
	for name, state := range servers {
		if b.peers[name] == nil {
			b.peers[name] = NewPeer(&b.PeerBox, name, state)
		} else {
			b.peers[name].Update(state)
		}
	}
}

func newBox(announced *Box, tlsConfig *tls.Config) *box {
	address, err := url.Parse(announced.Address)
	if err != nil { // package fleet accepts no such announcement
		return nil
	}
	gone := make(chan struct{})
	return &box{
		PeerBox: PeerBox{Name: announced.Name, Address: address, Hop: announced.Hop, Gone: gone, Transport: newTransport(tlsConfig)},
		gone:    gone, peers: map[string]*Peer{},
	}
}

const (
	// deadAfter is after what time without a sign of life from its kernel a box's connections
	// are closed: it has lost its power or its network. Then the calls on them move on.
	deadAfter = 4 * time.Second
	// idleTime is shorter than the time after which a box closes an idle connection.
	idleTime = 30 * time.Second
)

func newTransport(tlsConfig *tls.Config) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadAfter / 4, Interval: deadAfter / 4, Count: 3},
		ControlContext:  limitSilence,
	}
	return &http.Transport{
		DialContext: request.WritevDialer(dialAny(dialer.DialContext, net.DefaultResolver.LookupHost)), TLSClientConfig: tlsConfig, TLSHandshakeTimeout: dialTimeout,
		ExpectContinueTimeout: time.Second, MaxIdleConnsPerHost: 64, IdleConnTimeout: idleTime, DisableCompression: true,
	}
}

// limitSilence makes the kernel close a connection whose data is not acknowledged (tcp(7),
// TCP_USER_TIMEOUT). Keepalives are not sent while data is on its way.
func limitSilence(_ context.Context, _, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
