package ondemand

import (
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor"
)

// model is what the Owner knows about a server.
type model struct {
	Server
	now    *supervisor.Snapshot
	calls  Calls
	demand demanded
	absent string    // Absent: why the file is not there
	until  time.Time // Absent: when it is expected

	placements []placement.Placement // where it can be
	known      bool                  // placements is known
	spreads    bool                  // its process has used GPUs that it should not see
	estimating bool                  // a goroutine reads the file
	measured                         // of the signature

	lastUsed   time.Time
	unloadedAt time.Time // when it was last found unloaded or unloading
	wasLoaded  bool
	loadedPID  int // of the last process that has loaded the model

	ended    int64     // calls that had ended when the process began to answer
	answered time.Time // when the process was first found to have answered a call since; zero = it has not

	lastExit  *supervisor.Exit
	failures  int           // loads in a row that ran out of VRAM
	outOfVRAM bool          // the last load did, and the reason is not known yet
	raises    int           // those of them that had the VRAM with which they were planned
	loadsIn   time.Duration // Figures.LoadsIn of an unloaded one
	loadFrom  time.Time     // it is not loaded before
	failed    bool          // it was last found failed

	loading    bool      // Load was called, and the snapshot does not show it yet
	unloading  bool      // likewise Unload
	forAnother bool      // it was last unloaded for another model
	callsEnded bool      // its calls have had their time since then
	reason     string    // why it was unloaded; "" = it was not
	reclaiming bool      // its process has ended, and the driver has not released its VRAM
	endedAt    time.Time // when that was first seen
	checkedAt  time.Time // when UnreclaimedVRAM was last called

	loads  int
	evicts map[Cause]int
}

// Cause is why a model was unloaded.
type Cause string

// The causes.
const (
	ForAnother Cause = "for_another" // another model needed the VRAM
	Idle       Cause = "idle"
	ByOperator Cause = "operator"
	Failure    Cause = "failure" // its load ran out of VRAM, or it failed and is not needed
)

// Causes lists all causes.
var Causes = []Cause{ForAnother, Idle, ByOperator, Failure}

// OnCall is the reason of a server that is unloaded until a call needs it.
const OnCall = "a call loads it"

const (
	// demandFor is how long a call that went elsewhere counts as a reason to load a model.
	demandFor = 2 * time.Minute
	// drainBound is the time for the calls of a model that is unloaded, if other backends can
	// continue all of them.
	drainBound = 30 * time.Second
	// reclaimTimeout is the time for the driver to release the VRAM of a process.
	reclaimTimeout = 15 * time.Second
)

// observe updates what is known about a server.
func (o *Owner) observe(m *model, sample *gpu.Sample, now time.Time) {
	before := m.now
	m.now = m.Process.Snapshot()
	m.observeCalls(before, now)
	m.absent, m.until = m.Absent()
	o.observeVRAM(m, sample, now)
	o.observeState(m, now)
	o.observeOutOfVRAM(m)
	loaded := m.now.State != supervisor.Unloaded || m.loading // otherwise only a request to load it ends
	if m.demand.unloads != nil && m.OnDemand && loaded {
		var until time.Time
		if m.demand.unloads.now {
			until = now
		}
		o.unload(m, until, ByOperator, "by llmsup unload; "+OnCall)
	}
}

// observeCalls updates what is known about the server's calls. was is what the step before has
// found of it; nil = there was none.
func (m *model) observeCalls(was *supervisor.Snapshot, now time.Time) {
	before := m.calls
	m.calls = m.Calls()
	m.demand = m.Demand.take(now, max(m.calls.Total-before.Total, 0))
	if m.calls.InFlight > 0 || m.calls.Total != before.Total {
		m.lastUsed = now
	}
	switch ended := m.calls.Total - int64(m.calls.InFlight); {
	case !m.now.State.Alive() || was == nil || was.PID != m.now.PID:
		m.ended, m.answered = ended, time.Time{}
	case m.answered.IsZero() && ended > m.ended:
		m.answered = now
	}
}

// observeVRAM measures what the server holds.
func (o *Owner) observeVRAM(m *model, sample *gpu.Sample, now time.Time) {
	if m.VRAM.Signature() == "" && !m.estimating {
		m.estimating = true
		vram := m.VRAM // the Owner replaces m.Server meanwhile
		go func() {    // the disk may not answer
			vram.Estimate()
			o.notify()
		}()
	}
	pids, _ := m.Process.Processes()
	if m.placements, m.known = m.VRAM.Placements(sample, pids); m.known && m.signature != m.VRAM.Signature() {
		m.measured = o.store.of(m.Name, m.VRAM.Signature())
	}
	o.observeSpread(m)
	if m.signature != "" && m.measure(sample.At) && m.now.State.Alive() { // while it loads, it would be saved every second
		o.save()
	}
	switch {
	case m.now.PID != 0 && m.now.State == supervisor.Unloaded: // it sleeps: the driver shows what it has released
		m.reclaiming, m.endedAt = m.isUnread(o, m.now.Since), time.Time{}
	case m.now.PID != 0 || m.now.State == supervisor.Stopped:
		m.reclaiming, m.endedAt = false, time.Time{}
	case m.endedAt.IsZero():
		m.reclaiming, m.endedAt = true, now
		fallthrough
	case m.reclaiming && now.Sub(m.checkedAt) >= reclaimInterval:
		m.checkedAt = now
		o.checkReclaimed(m, now)
	}
}

// checkReclaimed checks whether the VRAM of the last process is free, and stops waiting for it
// after a time.
func (o *Owner) checkReclaimed(m *model, now time.Time) {
	left := m.VRAM.UnreclaimedVRAM()
	if left == "" && m.isUnread(o, m.endedAt) {
		left = "the driver has not been read since its end"
	}
	m.reclaiming = left != ""
	if m.reclaiming && now.Sub(m.endedAt) >= reclaimTimeout {
		m.reclaiming = false
		o.log.Warn().Str("server", m.Name).Msg("the VRAM of an unloaded model is not free, and is not waited for any longer: " + left + "; llmsup status shows which processes hold it")
	}
}

// isUnread reports whether the driver has not been read since a time, and has it read.
func (m *model) isUnread(o *Owner, since time.Time) bool {
	s := o.opts.GPUs.Sample()
	if s.Problem != "" || len(m.placements) == 0 || s.At.After(since) {
		return false
	}
	o.opts.GPUs.RequestSample()
	return true
}

// observeState follows the server's state: the end of a load, and failures.
func (o *Owner) observeState(m *model, now time.Time) {
	switch state := m.now.State; {
	case state.Alive():
		if !m.wasLoaded {
			o.observeLoaded(m, now)
			o.save()
		}
	case state == supervisor.Unloaded || state == supervisor.Unloading:
		m.unloading = false
		if state == supervisor.Unloading {
			o.endCalls(m, now)
		}
		if m.wasLoaded || m.unloadedAt.IsZero() {
			m.unloadedAt = now
		}
	}
	if m.wasLoaded && !m.now.State.Alive() {
		o.save()
	}
	m.wasLoaded = m.now.State.Alive()
	if m.now.State != supervisor.Unloaded {
		m.loading = false
	}
	if m.OnDemand {
		o.observeFailure(m, now)
		o.observeStart(m, now)
	} else if m.now.UnloadRequested { // a reload has changed it
		m.Process.Load()
	}
	m.failed = m.now.State == supervisor.Failed
}

// endCalls makes the calls of a model that is being unloaded continue at other backends, once they
// have had their time and all of them can. While one has to end here, the VRAM is free no sooner
// if others go.
func (o *Owner) endCalls(m *model, now time.Time) {
	if m.callsEnded || m.calls.InFlight == 0 || m.calls.Bound > 0 || now.Sub(m.now.Since) < drainBound {
		return
	}
	m.callsEnded = true
	o.log.Info().Str("server", m.Name).Int("calls", m.calls.InFlight).Msg("the model's calls continue elsewhere: they have had " + drainBound.String())
	m.Process.Unload(supervisor.DrainOptions{Until: now, Reason: m.reason})
}

// observeLoaded records that a load has succeeded.
func (o *Owner) observeLoaded(m *model, now time.Time) {
	m.lastUsed, m.failures, m.raises, m.outOfVRAM, m.loadFrom = now, 0, 0, false, time.Time{}
	m.Demand.loadDone()
	m.demand.byHand = time.Time{}
	took := m.now.LoadDuration
	if took == 0 || m.now.PID == m.loadedPID { // after a drain that has kept the process
		return
	}
	m.loadedPID = m.now.PID
	o.opts.Loaded(m.Name, took)
	if m.loadTime > 0 {
		took = (m.loadTime + took) / 2
	}
	m.loadTime = took
}

// observeFailure unloads a model whose load ran out of VRAM: it is planned again, and after a
// pause if it does so once more. A server that fails otherwise is restarted by its
// supervisor, for as long as calls need it; one that has failed for good is unloaded when an
// operator loads it, or when it would start again without a call.
func (o *Owner) observeFailure(m *model, now time.Time) {
	exit := m.now.LastExit
	isNew := exit != nil && exit != m.lastExit
	m.lastExit = exit
	switch asked := m.demand.byHand; {
	case m.now.UnloadRequested || m.now.DrainRequested:
	case m.now.State == supervisor.Failed && asked.After(m.now.Since):
		o.unload(m, now, Failure, "it is loaded again")
	case m.now.State == supervisor.Failed && !asked.IsZero():
		m.Demand.loadDone()
	case m.failed && m.now.State != supervisor.Failed && !m.isNeeded(now):
		o.unload(m, now, Failure, OnCall)
	}
	if m.now.State != supervisor.Restarting || m.now.NextStart.IsZero() || m.now.DrainRequested {
		return
	}
	switch {
	case isNew && exit.Class == supervisor.OutOfVRAM && !exit.Served:
		m.failures++
		m.outOfVRAM = true
		if m.failures > 1 {
			m.loadFrom = now.Add(min(time.Minute<<min(m.failures-2, 5), maxPause))
			m.Demand.loadDone()
		}
		o.unload(m, now, Failure, exit.Cause)
	case !m.isNeeded(now):
		m.loadFrom = m.now.NextStart
		o.unload(m, now, Failure, exit.Cause+"; "+OnCall)
	}
}

// observeOutOfVRAM finds out why a load ran out of VRAM, once the VRAM of its process is free
// again: if there is as much as it was planned with, that was too little. Otherwise others
// have taken it meanwhile, which says nothing about its need.
func (o *Owner) observeOutOfVRAM(m *model) {
	if !m.outOfVRAM || m.now.State != supervisor.Unloaded || m.unloading || m.reclaiming || !m.known {
		return
	}
	m.outOfVRAM = false
	sample := o.opts.GPUs.Sample()
	needs, _ := m.needs(m.current(), sample)
	isTaken := func(s scheduler.Share) bool {
		free := sample.GPUs[s.GPU].MemoryFree
		return free != nil && *free < s.Bytes
	}
	if !slices.ContainsFunc(needs, isTaken) {
		m.raises++
		m.tooLittle = true
		o.save()
	}
}

// maxPause is the longest pause after loads that ran out of VRAM.
const maxPause = 10 * time.Minute

// isNeeded reports whether calls wait for the model, or have gone elsewhere since it was
// unloaded, or an operator loads it.
func (m *model) isNeeded(now time.Time) bool {
	return m.calls.ForModel > 0 || !m.demand.byHand.IsZero() || m.neededElsewhere(now)
}

func (m *model) neededElsewhere(now time.Time) bool {
	return m.demand.elsewhere.After(m.unloadedAt) && now.Sub(m.demand.elsewhere) < demandFor
}
