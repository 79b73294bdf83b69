package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

const (
	// probeTimeout bounds one question of a probe, unless half a StallTimeout is less. An
	// engine's own probe may give it less time.
	probeTimeout = 10 * time.Second
	// maxSampleInterval is the longest time between two samples of a ready process.
	maxSampleInterval = 2 * time.Second
	// canaryAfter is how long a server may be idle before it has to answer a
	// test call again.
	canaryAfter = 5 * time.Minute
)

// monitor follows a ready process until it or ctx ends, a command ends it, or it has
// shown no sign of life for StallTimeout. The verdict is why llmsup ends the process;
// nil = it does not.
func (s *Server) monitor(ctx context.Context, p child, probe Probe) (verdict *Exit) {
	ctx, cancel := context.WithCancel(ctx)
	samples := make(chan liveness)
	var helpers sync.WaitGroup
	helpers.Go(func() { s.sample(ctx, probe, samples) })
	defer func() { cancel(); helpers.Wait() }()

	stall := newStallDetector(s.spec.StallTimeout, 2*s.sampleInterval()+s.probeTimeout())
	defer stall.timer.Stop()
	var drain drain
	advance := func(event drainEvent, failure error) *Exit {
		return s.advanceDrain(ctx, &drain, event, failure, probe, helpers.Go)
	}
	if verdict := advance(commandsChanged, nil); verdict != nil { // commands from before it was ready
		return verdict
	}
	beat := time.NewTicker(heartbeatInterval) // a sample may take longer
	defer beat.Stop()
	for verdict == nil {
		s.heartbeat.beat()
		select {
		case <-beat.C:
		case <-ctx.Done():
			return nil
		case <-p.Done():
			return nil
		case now := <-samples:
			s.oom.Read()
			if now.HTTPAnswers = now.HTTPAnswers || !s.asleep.IsZero(); !s.asleep.IsZero() { // what it answers then is not known
				now.EngineAnswers = true
			}
			stall.observe(now)
		case <-s.commands.pending:
			verdict = advance(commandsChanged, nil)
		case <-drain.callsEnded:
			verdict = advance(callsEnded, nil)
		case err := <-drain.verified:
			verdict = advance(outcome(err, verified, verifyFailed), err)
		case err := <-drain.slept:
			verdict = advance(outcome(err, slept, sleepFailed), err)
		case <-s.healthChanged:
			if drain.phase == inUse {
				s.setReadyOrDegraded(nil)
			}
		case <-s.killRequested:
			verdict = s.takeKillRequest(p.PID())
		case <-stall.timer.C:
			verdict = stall.verdict()
		}
	}
	return verdict
}

// stallDetector finds out from samples that a process has shown no sign of life for
// a timeout.
type stallDetector struct {
	timeout   time.Duration
	maxAge    time.Duration // how old the newest sample may be to be evidence
	timer     *time.Timer   // when the timeout has passed
	lastAlive liveness
	newest    liveness
	newestAt  time.Time
}

// newStallDetector returns a detector for a process that has just answered a
// test call.
func newStallDetector(timeout, maxAge time.Duration) *stallDetector {
	alive := liveness{at: time.Now(), Sample: Sample{HTTPAnswers: true, EngineAnswers: true}}
	return &stallDetector{timeout: timeout, maxAge: maxAge, timer: time.NewTimer(timeout), lastAlive: alive, newest: alive, newestAt: alive.at}
}

// observe takes a sample, and restarts the timeout if it shows a sign of life.
func (d *stallDetector) observe(now liveness) {
	d.newest, d.newestAt = now, time.Now()
	if now.alive(d.lastAlive) {
		d.lastAlive = now
		d.timer.Reset(d.timeout - time.Since(now.at))
	}
}

// verdict is called when the timeout has passed. It needs evidence: a recent sample
// without a sign of life. Where there is none, llmsup itself did not run (SIGSTOP, a
// suspended machine), and the timeout starts anew.
func (d *stallDetector) verdict() *Exit {
	if time.Since(d.newestAt) > d.maxAge || d.newest.alive(d.lastAlive) {
		d.lastAlive.at = time.Now()
		d.timer.Reset(d.timeout)
		return nil
	}
	return &Exit{Class: Hung, Cause: fmt.Sprintf("it showed no sign of life for %s: %s", d.timeout, d.newest.describe())}
}

func (s *Server) probeTimeout() time.Duration { return min(probeTimeout, s.spec.StallTimeout/2) }

// sampleInterval is the time between two samples of a ready process.
func (s *Server) sampleInterval() time.Duration { return min(maxSampleInterval, s.spec.StallTimeout/4) }

// sample takes samples of the process until ctx ends. A probe that hangs delays only
// the next sample, and not the owner.
func (s *Server) sample(ctx context.Context, probe Probe, samples chan<- liveness) {
	tick := time.NewTicker(s.sampleInterval())
	defer tick.Stop()
	canary := canary{busyAt: time.Now()}
	heard, bytes := time.Now(), int64(0)
	var meter process.CPUMeter
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := liveness{Sample: probe.Sample(ctx)}
		s.observeCaches(now.Sample)
		traffic := s.spec.Traffic()
		now.calls, now.bytes = traffic.Waiting, traffic.Bytes
		pids, usesGPU := s.Processes()
		now.at = time.Now() // when the CPU time is read: on a busy machine the probes may have taken a second
		now.cpu, now.usesGPU = meter.Read(pids), usesGPU()
		if now.HTTPAnswers || now.bytes != bytes {
			heard, bytes = now.at, now.bytes
		}
		now.silent = now.Opaque && now.at.Sub(heard) > opaqueLimit*s.spec.StallTimeout
		if err := canary.run(ctx, now, traffic.Calls > 0, probe, s.spec.StallTimeout); err != nil {
			now.EngineAnswers, now.Failure = false, "it did not answer a test call" // asked again with the next sample
			s.log.Warn().Err(err).Msg(s.program + " was idle and did not answer a test call")
		}
		select {
		case <-ctx.Done():
			return
		case samples <- now:
		}
	}
}

// canary makes a test call to an idle server from time to time.
type canary struct {
	busyAt time.Time // when the server last worked, or answered a canary
	bytes  int64
}

// run makes a test call if the server has been idle for long enough, and returns why it was
// not answered.
func (c *canary) run(ctx context.Context, now liveness, busy bool, probe Probe, timeout time.Duration) error {
	if busy || now.bytes != c.bytes {
		c.busyAt, c.bytes = now.at, now.bytes
	}
	if !now.HTTPAnswers || now.at.Sub(c.busyAt) < canaryAfter {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := probe.TestCall(ctx); err != nil {
		return err
	}
	c.busyAt = time.Now()
	return nil
}
