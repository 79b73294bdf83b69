package gpu

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Verdict is what the samples so far mean for a server.
type Verdict struct {
	Conditions []Condition // why it is degraded; none = it is not
	// Fatal is why its process has to be replaced; nil = it need not. It is told
	// once.
	Fatal *Condition
}

// Message puts all findings into one line; "" where there are none.
func (v Verdict) Message() string {
	var words []string
	for _, f := range v.Conditions {
		words = append(words, string(f.Reason)+": "+f.Message)
	}
	return strings.Join(words, "; ")
}

// History is what a verdict remembers from sample to sample. The zero value
// remembers nothing. It is never changed: Next returns another one.
type History struct {
	pid     int // of the process that the baselines are of
	streaks map[conditionKey]streak
	gpus    map[string]baseline // by UUID
}

// conditionKey is one thing that may be wrong.
type conditionKey struct {
	reason Reason
	uuid   string
}

// streak is how often in a row a matter was found bad or good.
type streak struct {
	bad, good int
	unknown   int // samples in a row that said nothing of it
	holds     bool
	message   string // of the last bad one
}

// baseline is what a GPU was like when the server's process was.
type baseline struct {
	foreign *uint64       // the least that others have held since just before it was started, in bytes
	ecc     *uint64       // errors just before it was started
	busy    time.Duration // for how long it was seen to be busy without a call of ours
	busyAt  time.Time     // of the last sample, if it was busy then; zero = it was not, or nobody knows

	lastForeign, lastECC *uint64 // of the last sample, for the next process
}

// observation is what one sample says of a matter.
type observation struct {
	bad     bool
	early   bool // it has to last longer to hold
	fatal   bool // the process can't go on
	message string
}

// Next takes a sample into account. What a sample does not tell, for want of a
// figure or because the driver does not answer, is no vote. A reason that holds
// is dropped when there was none for as long as it takes to heal: calls must not
// be paid for what nobody knows. Only what is lost stays lost until it is found.
func (p Policy) Next(h History, s *Sample, server Server) (History, Verdict) {
	next := h.baselines(p, s, server)
	next.streaks = map[conditionKey]streak{}
	for m, c := range h.streaks {
		if m.uuid == "" || slices.Contains(server.GPUs, m.uuid) { // else it is of a GPU that the server has left
			next.streaks[m] = c
		}
	}
	if server.PID != h.pid { // these are of the old process
		delete(next.streaks, conditionKey{OnCPU, ""})
		delete(next.streaks, conditionKey{ContextReduced, ""})
	}
	var v Verdict
	var ends []Condition
	votes := p.observe(next, s, server)
	for m, c := range next.streaks {
		if _, voted := votes[m]; voted {
			continue
		}
		if c.unknown++; c.unknown >= p.GoodSamples && m.reason != Lost {
			delete(next.streaks, m)
			continue
		}
		next.streaks[m] = c
	}
	for m, vote := range votes {
		was := next.streaks[m]
		now := p.extend(was, m.reason, vote)
		next.streaks[m] = now
		another := m.reason.immediate() && vote.bad
		if vote.fatal && server.PID != 0 && now.holds && (!was.holds || another) {
			ends = append(ends, Condition{m.reason, m.uuid, now.message})
		}
	}
	for m, c := range next.streaks {
		if c.holds {
			v.Conditions = append(v.Conditions, Condition{m.reason, m.uuid, c.message})
		}
	}
	slices.SortFunc(v.Conditions, bySeverity)
	if len(ends) > 0 {
		v.Fatal = new(slices.MinFunc(ends, bySeverity))
	}
	return next, v
}

func bySeverity(a, b Condition) int {
	return cmp.Or(cmp.Compare(severity[a.Reason], severity[b.Reason]), cmp.Compare(a.UUID, b.UUID))
}

// severity puts the gravest reason first.
var severity = map[Reason]int{Lost: 0, Xid: 1, ECC: 2, Thermal: 3, OnCPU: 4, ContextReduced: 5, VRAMPressure: 6, BusyElsewhere: 7}

// extend is the hysteresis: a reason holds after BadSamples in a row, and no
// longer after GoodSamples in a row.
func (p Policy) extend(c streak, r Reason, v observation) streak {
	c.unknown = 0
	if v.bad {
		c.bad, c.good, c.message = c.bad+1, 0, v.message
		if r.immediate() || c.bad >= p.BadSamples && !v.early {
			c.holds = true
		}
		return c
	}
	c.good, c.bad = c.good+1, 0
	if c.good >= p.GoodSamples {
		c.holds = false
	}
	return c
}

// baselines carries over what is to be compared with later, and takes it anew
// for another process.
func (h History) baselines(p Policy, s *Sample, server Server) History {
	next := History{pid: server.PID, gpus: map[string]baseline{}}
	for _, uuid := range server.GPUs {
		b := h.gpus[uuid]
		if server.PID != h.pid {
			b = baseline{foreign: b.lastForeign, ecc: b.lastECC, lastForeign: b.lastForeign, lastECC: b.lastECC}
		}
		var g GPU // of which nothing is known
		if found := s.Find(uuid); found != nil {
			g = *found
		}
		if g.ECCUncorrected != nil {
			b.lastECC = g.ECCUncorrected
			b.ecc = cmp.Or(b.ecc, b.lastECC)
		}
		if others := g.foreignBytes(server); others != nil {
			b.lastForeign = others
			if b.foreign == nil || *others < *b.foreign {
				b.foreign = others
			}
		}
		switch was := b.busyAt; {
		case server.Calls > 0, server.SiblingsBusy, !server.Loaded, g.Utilization != nil && *g.Utilization < p.BusyPercent:
			b.busy, b.busyAt = 0, time.Time{}
		case g.Utilization == nil: // until it is known again, time does not count
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
