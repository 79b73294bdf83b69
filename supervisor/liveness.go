package supervisor

import "time"

// liveness is one sample of a ready process: what it answers, what it has done, and
// what it has to do.
type liveness struct {
	Sample
	at      time.Time
	calls   int           // that wait for it, as the router counts them
	bytes   int64         // of output that the router has received from it so far
	cpu     time.Duration // of a process.CPUMeter
	usesGPU bool          // it has a GPU's device open
	silent  bool          // an opaque one has neither answered a probe nor sent a byte for opaqueLimit stall timeouts
}

// CPU time shows that the process works. Without a GPU, all real work shows as CPU
// time. With one, a thread that spins on a dead GPU uses one core for ever, and only
// more than that is work.
const (
	busyCores    = 0.2
	busyCoresGPU = 1.5
)

// opaqueLimit is how many stall timeouts an opaque program may compute without an answer
// to a probe and without a byte of an answer: one that makes pictures may do that for
// minutes, and so may one that hangs and spins.
const opaqueLimit = 10

// alive reports whether now, a sample taken after before, shows a sign of life: work
// between the two samples, or, without a call in flight, answers to the probes.
//
// A server that is only busy always shows one. With all slots in use it decodes. In
// the prefill of a long prompt its counters stand still for the time of a batch
// (2,048 tokens: half a minute on a slow CPU), but then its CPU time grows; on a GPU,
// a batch takes a second or two.
//
// A program without counters that answers the probes is alive whatever its calls do, and
// one that does not answer is for as long as it computes, up to opaqueLimit.
func (now liveness) alive(before liveness) bool {
	if (now.calls == 0 || now.Opaque) && now.HTTPAnswers && now.EngineAnswers {
		return true
	}
	if now.bytes != before.bytes {
		return true
	}
	if now.HTTPAnswers && !now.EngineAnswers {
		return false // the sign of an engine that hangs, whatever its threads compute
	}
	// Counters that could not be read prove nothing.
	if now.WorkKnown && (!before.WorkKnown || now.Work != before.Work) {
		return true
	}
	if now.silent || now.calls == 0 && !now.HTTPAnswers && !now.Opaque {
		return false // without calls, CPU time does not explain why it does not answer
	}
	cores := busyCores
	if now.usesGPU && !now.Opaque {
		cores = busyCoresGPU
	}
	elapsed := now.at.Sub(before.at)
	return elapsed > 0 && float64(now.cpu-before.cpu) > cores*float64(elapsed)
}

// describe returns what a process fails to do that shows no sign of life.
func (now liveness) describe() string {
	if now.Failure != "" {
		return now.Failure
	}
	return "its calls in flight make no progress"
}
