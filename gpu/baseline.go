package gpu

import (
	"cmp"
	"time"
)

// baseline is the state of a GPU when the server's process started. Later samples are
// compared with it.
type baseline struct {
	foreign *uint64       // the least that other processes have held since the last sample before the start, in bytes
	ecc     *uint64       // errors in the last sample before the start
	busy    time.Duration // how long it has been busy without a call from llmsup
	busyAt  time.Time     // time of the last sample, if it was busy then; zero = it was not, or unknown

	lastForeign, lastECC *uint64 // of the last sample, for the next process
}

// baselines returns a history with the baselines of this sample. Another process gets
// new ones.
func (h History) baselines(p Policy, s *Sample, server Server) History {
	next := History{pid: server.PID, gpus: map[string]baseline{}}
	for _, uuid := range server.GPUs {
		b := h.gpus[uuid]
		if server.PID != h.pid {
			b = baseline{foreign: b.lastForeign, ecc: b.lastECC, lastForeign: b.lastForeign, lastECC: b.lastECC}
		}
		var g GPU // unknown
		if found := s.Find(uuid); found != nil {
			g = *found
		}
		if g.ECCUncorrected != nil {
			b.lastECC = g.ECCUncorrected
			b.ecc = cmp.Or(b.ecc, b.lastECC)
		}
		if foreign := g.foreignBytes(server); foreign != nil {
			b.lastForeign = foreign
			if b.foreign == nil || *foreign < *b.foreign {
				b.foreign = foreign
			}
		}
		switch was := b.busyAt; {
		case server.Calls > 0, server.SiblingsBusy, !server.Loaded, g.Utilization != nil && *g.Utilization < p.BusyPercent:
			b.busy, b.busyAt = 0, time.Time{}
		case g.Utilization == nil: // time does not count while it is unknown
			b.busyAt = time.Time{}
		default:
			b.busyAt = s.At
			if !was.IsZero() {
				b.busy += s.At.Sub(was)
			}
		}
		next.gpus[uuid] = b
	}
	return next
}
