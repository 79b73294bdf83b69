package fleet

import "time"

const (
	// maxPause is longer than the time between two searches for silent boxes while this process runs.
	maxPause = time.Second
	// quiet is after what time without anything from NATS the connection may be lost: the bucket
	// confirms this box's own announcement each second.
	quiet = AnnounceInterval * 3 / 2
	// maxQuiet is longer than it takes to notice that the connection is lost. If it is not, the bucket
	// has no leader, and the other boxes are silent indeed.
	maxQuiet = 3 * pingInterval
)

// discountPause extends the deadline of all boxes by a time in which this process could receive
// nothing: it was stopped, or NATS delivered nothing. The caller holds mu.
func (m *Member) discountPause(now time.Time) {
	pause, nothing := now.Sub(m.checked), now.Sub(m.lastReceived)
	if !m.checked.IsZero() && (pause > maxPause || m.link.joined && nothing > quiet && nothing < maxQuiet) {
		m.peers.postpone(m.checked, now)
	}
	m.checked = now
}

// noteReceived notes that something has arrived from NATS.
func (m *Member) noteReceived() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastReceived = m.clock()
}
