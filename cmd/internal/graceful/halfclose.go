package graceful

import (
	"time"

	"golang.org/x/sys/unix"
)

// halfClose tells a client that has only closed its sending side, and still reads,
// from one that has closed its connection. Both look like EOF, on which net/http
// cancels the request. So EOF is withheld while a call is in flight, and an interim
// response is written, which a client has to expect before any response of HTTP/1.1
// (RFC 9110, 15.2): a closed connection answers it with a reset, at once.
//
// That is possible until the response begins. Then the end is passed on as it comes.
type halfClose struct {
	call  bool        // one of HTTP/1.1 is under way, and nothing of its response has been written
	held  bool        // the client's end has been
	probe *time.Timer // writes the next interim response; nil = there was none in this call
}

const interim = "HTTP/1.1 100 Continue\r\n\r\n"

const (
	// A proxy that passes bytes on may have to write to its client twice before it
	// knows that there is none. The third interim response is its reset, still within
	// the 100 ms in which a call has to be cancelled.
	probeFirst = 20 * time.Millisecond
	// By this one, a client that is still there has acknowledged the first two, unless it
	// is so far away that its reset would be late, too.
	probeAcked = 3 * probeFirst
	probeMost  = 10 * time.Second
)

// beginCall is called when a call has come whose client may be sent interim responses.
func (v *visitor) beginCall() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.halves = halfClose{call: true}
}

// endCall is called when its handler returns.
func (v *visitor) endCall() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.halves.probe != nil {
		v.halves.probe.Stop()
	}
	v.halves = halfClose{}
}

// Write notes that the response has begun. An interim one can't come into it, since
// both take mu.
func (v *visitor) Write(p []byte) (int, error) {
	if string(p) != interim { // net/http writes it for a client that expects it
		v.mu.Lock()
		v.halves.call = false
		v.mu.Unlock()
	}
	return v.Conn.Write(p)
}

// holdEnd says whether the end that has just been read is held back. Read then waits:
// for a reset, or until net/http ends it because the call is over. mu is locked.
func (v *visitor) holdEnd(fd uintptr) bool {
	h := &v.halves
	// One byte is what net/http reads to notice that a client leaves; the end of a
	// body that is not whole is no matter of this.
	if len(v.into) != 1 || !h.call && !h.held {
		return false
	}
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != unix.BPF_TCP_CLOSE_WAIT { // after a reset it is closed
		return false
	}
	if h.held {
		return true
	}
	h.held = v.writeInterim(fd)
	if h.held {
		v.probeAfter(probeFirst)
	}
	return h.held
}

// writeInterim writes an interim response, whole or not at all. mu is locked.
func (v *visitor) writeInterim(fd uintptr) bool {
	n, err := unix.Write(int(fd), []byte(interim))
	if err == nil && n < len(interim) { // a client that does not read
		_ = unix.Shutdown(int(fd), unix.SHUT_RDWR)
	}
	return err == nil && n == len(interim)
}

// probeAfter writes interim responses at growing intervals, for as long as nothing
// else is written: a client that has closed its sending side tells nothing when it
// closes the other one, too. mu is locked.
func (v *visitor) probeAfter(pause time.Duration) {
	var probe *time.Timer
	probe = time.AfterFunc(pause, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.halves.probe != probe || !v.halves.call {
			return
		}
		_ = v.raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if pause == probeAcked && (err != nil || info.Unacked > 0) {
				v.passEnd(fd)
			} else if v.writeInterim(fd) { // else there is a reset, which Read finds
				pause = min(3*pause, probeMost)
				probe.Reset(pause)
			}
		})
	})
	v.halves.probe = probe
}

// passEnd has Read pass the end on that is held back. mu is locked.
func (v *visitor) passEnd(fd uintptr) {
	v.halves = halfClose{}
	_ = unix.Shutdown(int(fd), unix.SHUT_RD) // wakes Read
}
