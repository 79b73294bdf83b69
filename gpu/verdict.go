package gpu

import (
	"cmp"
	"slices"
	"strings"
)

// Verdict is what the samples up to now mean for a server.
type Verdict struct {
	Conditions []Condition // why it is degraded; none = it is not
	// Fatal is why its process has to be replaced; nil = it need not be. It is set once
	// for each fatal event.
	Fatal *Condition
}

// Message returns all conditions in one line; "" = there are none.
func (v Verdict) Message() string {
	var messages []string
	for _, f := range v.Conditions {
		messages = append(messages, string(f.Reason)+": "+f.Message)
	}
	return strings.Join(messages, "; ")
}

// History is the state that a verdict needs from earlier samples. The zero value has
// none. It is immutable: Next returns another one.
type History struct {
	pid     int // of the process that the baselines are of
	streaks map[conditionKey]streak
	gpus    map[string]baseline // by UUID
}

// conditionKey names a condition of a server.
type conditionKey struct {
	reason Reason
	uuid   string
}

// streak is how many samples in a row were bad or good, for one condition.
type streak struct {
	bad, good int
	unknown   int // samples in a row that did not show it
	holds     bool
	message   string // of the last bad sample
}

// observation is what one sample shows of a condition.
type observation struct {
	bad     bool
	early   bool // it has not lasted long enough to hold
	fatal   bool // the process has to be replaced
	message string
}

// Next returns the history and the verdict after one more sample. What a sample does not
// show, since a value is missing or the driver does not answer, counts as neither bad nor
// good. A condition that is not shown for GoodSamples in a row is dropped, so that calls
// are not paid for on a guess; only a lost GPU stays lost until it is found.
func (p Policy) Next(h History, s *Sample, server Server) (History, Verdict) {
	next := h.baselines(p, s, server)
	next.streaks = h.streaksOf(server)
	observations := p.observe(next, s, server)
	p.countUnknown(next.streaks, observations)
	var v Verdict
	var fatal []Condition
	for key, o := range observations {
		was := next.streaks[key]
		now := p.extend(was, key.reason, o)
		next.streaks[key] = now
		again := key.reason.immediate() && o.bad
		if o.fatal && server.PID != 0 && now.holds && (!was.holds || again) {
			fatal = append(fatal, Condition{key.reason, key.uuid, now.message})
		}
	}
	for key, streak := range next.streaks {
		if streak.holds {
			v.Conditions = append(v.Conditions, Condition{key.reason, key.uuid, streak.message})
		}
	}
	slices.SortFunc(v.Conditions, bySeverity)
	if len(fatal) > 0 {
		v.Fatal = new(slices.MinFunc(fatal, bySeverity))
	}
	return next, v
}

// streaksOf returns the streaks that still apply: not those of GPUs that the server has
// left, nor those of an earlier process.
func (h History) streaksOf(server Server) map[conditionKey]streak {
	streaks := map[conditionKey]streak{}
	for key, s := range h.streaks {
		if key.uuid == "" || slices.Contains(server.GPUs, key.uuid) {
			streaks[key] = s
		}
	}
	if server.PID != h.pid {
		delete(streaks, conditionKey{OnCPU, ""})
		delete(streaks, conditionKey{ContextReduced, ""})
	}
	return streaks
}

// countUnknown counts a sample for the streaks that it shows nothing of, and drops those
// that were unknown for too long.
func (p Policy) countUnknown(streaks map[conditionKey]streak, observations map[conditionKey]observation) {
	for key, s := range streaks {
		if _, observed := observations[key]; observed {
			continue
		}
		if s.unknown++; s.unknown >= p.GoodSamples && key.reason != Lost {
			delete(streaks, key)
			continue
		}
		streaks[key] = s
	}
}

// bySeverity sorts the most severe condition first.
func bySeverity(a, b Condition) int {
	return cmp.Or(cmp.Compare(severity[a.Reason], severity[b.Reason]), cmp.Compare(a.UUID, b.UUID))
}

// severity ranks the reasons; 0 is the most severe.
var severity = map[Reason]int{Lost: 0, Xid: 1, ECC: 2, Thermal: 3, OnCPU: 4, ContextReduced: 5, VRAMPressure: 6, BusyElsewhere: 7}

// extend is the hysteresis: a reason holds after BadSamples in a row, until GoodSamples
// in a row.
func (p Policy) extend(s streak, r Reason, o observation) streak {
	s.unknown = 0
	if o.bad {
		s.bad, s.good, s.message = s.bad+1, 0, o.message
		if r.immediate() || s.bad >= p.BadSamples && !o.early {
			s.holds = true
		}
		return s
	}
	s.good, s.bad = s.good+1, 0
	if s.good >= p.GoodSamples {
		s.holds = false
	}
	return s
}
