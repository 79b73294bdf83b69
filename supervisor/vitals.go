package supervisor

import "time"

// vitals is what one look at a running llama-server found.
type vitals struct {
	at      time.Time
	health  bool          // /health answered 200
	slots   bool          // /slots answered
	calls   int           // that wait for it, by llmsup's own count
	bytes   int64         // of output that the router has had from it so far
	tokens  float64       // a sum of the engine's own counters; it changes with every bit of work
	counted bool          // the engine gave them all
	cpu     time.Duration // by a cpuMeter
	usesGPU bool          // it has a GPU's device open
}

// A CPU that works for the engine is a sign of life. Without a GPU any real
// work shows as CPU time; with one, a thread that spins on a dead GPU burns one
// core for ever, and only more than that is work.
const (
	busyCores    = 0.2
	busyCoresGPU = 1.5
)

// alive says whether now, a look later than before, shows a sign of life: work
// that went on between the two, or, with no call in flight, an engine that
// answers.
//
// A server that is only busy always shows one. With its slots full it decodes;
// in a long prompt its counters stand still for as long as a batch takes (2,048
// tokens: half a minute on a slow CPU), but then its CPU time grows, or, on a
// GPU, a batch takes a second or two.
func (now vitals) alive(before vitals) bool {
	if now.calls == 0 && now.health && now.slots {
		return true
	}
	if now.bytes != before.bytes {
		return true
	}
	if now.health && !now.slots {
		return false // the mark of an engine that is stuck, whatever its threads compute
	}
	// Counters that could not be read say nothing, either way.
	if now.counted && (!before.counted || now.tokens != before.tokens) {
		return true
	}
	if now.calls == 0 && !now.health {
		return false // with nothing to do, CPU time is no excuse for silence
	}
	cores := busyCores
	if now.usesGPU {
		cores = busyCoresGPU
	}
	elapsed := now.at.Sub(before.at)
	return elapsed > 0 && float64(now.cpu-before.cpu) > cores*float64(elapsed)
}

// words says in a line what a server that shows no sign of life fails to do.
func (now vitals) words() string {
	switch {
	case !now.health:
		return "it does not answer /health"
	case !now.slots:
		return "it answers /health but not /slots"
	}
	return "its calls in flight make no progress"
}
