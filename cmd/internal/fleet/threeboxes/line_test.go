package threeboxes

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// line is the cable between a host and the bridge, on which what the host sends can be slow. It
// copies whole frames, so that the kernels at both ends see such a network: the time of a
// connection's setup, acknowledgements, retransmissions. The kernel's own simulation (netem) is not
// on every machine.
type line struct {
	out, in *os.File // packet sockets: towards the host, and towards the bridge

	mu   sync.Mutex
	ways map[netip.Addr]*way // by the address of the receiver
}

// way is how frames get from one host to another.
type way struct {
	delay  time.Duration // of each frame
	jitter time.Duration // at most, added at random; frames keep their order
	rate   int           // bytes a second; 0 = no limit

	frames chan delayed
	free   time.Time // when the last frame has been sent at the rate
	last   time.Time // when it arrives
}

type delayed struct {
	at    time.Time
	frame []byte
}

// maxQueued is how many frames wait on a way, as in a router. What comes when it is full gets lost.
const maxQueued = 100

// vnetHeader is what the kernel puts before each frame: whether its checksum has to be computed
// yet, and whether it is to be cut into several.
const vnetHeader = 10

// newLine puts a line between a host and the bridge. It ends with the test.
func newLine(t *testing.T, h *host) *line {
	t.Helper()
	near, far := h.name+"n", h.name+"f"
	ip(t, "link", "add", near, "type", "veth", "peer", "name", far)
	t.Cleanup(func() { ip(t, "link", "del", near) })
	ip(t, "link", "set", far, "master", "bridge", "up")
	ip(t, "link", "set", near, "arp", "off", "up")
	ip(t, "link", "set", h.name, "nomaster", "arp", "off")
	ip(t, "-n", h.name, "link", "set", "eth0", "gso_max_segs", "1") // frames as on a cable
	l := &line{out: packetSocket(t, h.name), in: packetSocket(t, near), ways: map[netip.Addr]*way{}}
	go copyFrames(l.in, func(frame []byte) { write(l.out, frame) })
	go copyFrames(l.out, l.send)
	t.Cleanup(func() {
		_ = l.in.Close()
		_ = l.out.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, w := range l.ways {
			close(w.frames)
		}
		l.ways = nil
	})
	return l
}

// packetSocket returns a socket that receives each frame of an interface, and sends frames there.
func packetSocket(t *testing.T, name string) *os.File {
	t.Helper()
	device, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in the order of the network
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal("socket: ", err)
	}
	for _, option := range []int{unix.PACKET_VNET_HDR, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			t.Fatal("setsockopt: ", err)
		}
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: device.Index}); err != nil {
		t.Fatal("bind: ", err)
	}
	return os.NewFile(uintptr(fd), name)
}

// copyFrames passes on what a socket receives until it is closed.
func copyFrames(from *os.File, to func([]byte)) {
	buffer := make([]byte, 128<<10)
	for {
		n, err := from.Read(buffer)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err == nil: // else the interface is down
			to(buffer[:n])
		}
	}
}

// write sends a frame. One that cannot be sent is lost, as on a cable.
func write(to *os.File, frame []byte) { _, _ = to.Write(frame) }

// send sends a frame of the host on the way to its receiver.
func (l *line) send(frame []byte) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.ways[receiver(frame)]
	if w == nil {
		write(l.in, frame)
		return
	}
	if w.free.Before(now) {
		w.free = now
	}
	if w.rate > 0 {
		w.free = w.free.Add(time.Duration(len(frame)-vnetHeader) * time.Second / time.Duration(w.rate))
	}
	at := w.free.Add(w.delay + rand.N(w.jitter+1))
	if at.Before(w.last) {
		at = w.last
	}
	w.last = at
	select {
	case w.frames <- delayed{at, append([]byte(nil), frame...)}:
	default:
	}
}

// receiver returns the address that an IPv4 frame is for; the zero Addr if it is another one.
func receiver(frame []byte) netip.Addr {
	const header = vnetHeader + 14
	if len(frame) < header+20 || frame[header-2] != 0x08 || frame[header-1] != 0 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(frame[header+16:]))
}

// set changes how the host's frames get to another one.
func (l *line) set(to *host, next way) {
	address := netip.MustParseAddr(to.address)
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.ways[address]
	if w == nil {
		w = &way{frames: make(chan delayed, maxQueued)}
		l.ways[address] = w
		go func() {
			for f := range w.frames {
				time.Sleep(time.Until(f.at)) // a simulated network
				write(l.in, f.frame)
			}
		}()
	}
	w.delay, w.jitter, w.rate = next.delay, next.jitter, next.rate
}
