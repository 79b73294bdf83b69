package graceful

import (
	"time"

	"golang.org/x/sys/unix"
)

// halfClose tells a client that has closed only its sending side, and still reads,
// from one that has closed its connection. Both look like EOF, on which net/http
// cancels the request. So EOF is withheld while a request is in flight, and an interim
// response is written, which a client has to expect before any response of HTTP/1.1
// (RFC 9110, 15.2). A closed connection answers it with a reset at once.
//
// That is possible until the response begins. From then on EOF is passed on as it
// arrives.
type halfClose struct {
	awaiting bool        // a request of HTTP/1.1 is in flight, and its response has not begun
	withheld bool        // EOF has arrived and is withheld
	probe    *time.Timer // writes the next interim response; nil = none was written for this request
}

const interim = "HTTP/1.1 100 Continue\r\n\r\n"

const (
	// A proxy that forwards bytes may have to write to its client twice before it
	// notices that it is gone. The reset then answers the third interim response, still
	// within the 100 ms in which a request has to be cancelled.
	firstProbe = 20 * time.Millisecond
	// By this probe, a client that is still there has acknowledged the first two, unless
	// it is so far away that its reset would be late, too.
	ackedProbe       = 3 * firstProbe
	maxProbeInterval = 10 * time.Second
)

// beginRequest is called when a request has arrived whose client may be sent interim
// responses.
func (c *trackedConn) beginRequest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.half = halfClose{awaiting: true}
}

// endRequest is called when its handler returns.
func (c *trackedConn) endRequest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.half.probe != nil {
		c.half.probe.Stop()
	}
	c.half = halfClose{}
}

// Write records that the response has begun. No interim response can be written into
// it, since both take mu.
func (c *trackedConn) Write(p []byte) (int, error) {
	if string(p) != interim { // net/http writes one for a client that expects it
		c.mu.Lock()
		c.half.awaiting, c.responding = false, true
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// withholdEOF decides whether the EOF that was just read is withheld. Read then waits
// for a reset, or until net/http cancels it because the request is done. The caller
// holds mu.
func (c *trackedConn) withholdEOF(fd uintptr) bool {
	h := &c.half
	// net/http reads a single byte to notice that a client closes its connection. EOF
	// inside a request's body is passed on, and net/http may read it again that way.
	if len(c.buffer) != 1 {
		h.awaiting = false
	}
	if !h.awaiting && !h.withheld {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != unix.BPF_TCP_CLOSE_WAIT { // after a reset it is closed
		return false
	}
	if h.withheld {
		return true
	}
	h.withheld = c.writeInterim(fd)
	if h.withheld {
		c.probeAfter(firstProbe)
	}
	return h.withheld
}

// writeInterim writes an interim response, whole or not at all. The caller holds mu.
func (c *trackedConn) writeInterim(fd uintptr) bool {
	n, err := unix.Write(int(fd), []byte(interim))
	if err == nil && n < len(interim) { // the client does not read
		_ = unix.Shutdown(int(fd), unix.SHUT_RDWR)
	}
	return err == nil && n == len(interim)
}

// probeAfter writes interim responses at growing intervals until anything else is
// written: a client that has closed its sending side sends nothing when it closes the
// other one, too. The caller holds mu.
func (c *trackedConn) probeAfter(pause time.Duration) {
	var probe *time.Timer
	probe = time.AfterFunc(pause, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.half.probe != probe || !c.half.awaiting {
			return
		}
		_ = c.raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if pause == ackedProbe && (err != nil || info.Unacked > 0) {
				c.passEOF(fd)
			} else if c.writeInterim(fd) { // else there is a reset, which Read returns
				pause = min(3*pause, maxProbeInterval)
				probe.Reset(pause)
			}
		})
	})
	c.half.probe = probe
}

// passEOF makes Read return the EOF that is withheld. The caller holds mu.
func (c *trackedConn) passEOF(fd uintptr) {
	c.half = halfClose{}
	_ = unix.Shutdown(int(fd), unix.SHUT_RD) // wakes Read
}
