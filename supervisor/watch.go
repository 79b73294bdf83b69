package supervisor

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	lookEvery = 2 * time.Second
	// canaryAfter is how long a server may have had nothing to do before it has
	// to prove by a completion that it still could.
	canaryAfter = 5 * time.Minute
)

// watch follows a ready server until it ends, ctx ends, or it has shown no sign
// of life for StallTimeout, which is the verdict it returns.
func (s *Server) watch(ctx context.Context, p child, ask engine) (verdict *Exit) {
	looking, stopLooking := context.WithCancel(ctx)
	looks := make(chan vitals)
	var lookers sync.WaitGroup
	lookers.Go(func() { s.look(looking, ask, looks) })
	defer func() { stopLooking(); lookers.Wait() }()

	last := vitals{at: time.Now(), health: true, slots: true} // it has just answered a completion
	newest, newestAt := last, time.Now()
	silence := time.NewTimer(s.spec.StallTimeout)
	defer silence.Stop()
	var future outlook
	if verdict := s.heed(looking, &future, ask, lookers.Go); verdict != nil { // what came while it loaded
		return verdict
	}
	tick := time.NewTicker(turnEvery) // a look may take long
	defer tick.Stop()
	for {
		s.turns.turn()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		case <-p.done():
			return nil
		case newest = <-looks:
			newestAt = time.Now()
			s.kills.look()
			if newest.alive(last) {
				last = newest
				silence.Reset(s.spec.StallTimeout - time.Since(last.at))
			}
		case <-s.orders.came:
			if verdict := s.heed(looking, &future, ask, lookers.Go); verdict != nil {
				return verdict
			}
		case <-future.calls:
			if verdict := s.rid(&future); verdict != nil {
				return verdict
			}
		case err := <-future.proof:
			if s.orders.held() != nil { // it is not to be used after all
				future.proof = nil
				continue
			}
			if err != nil {
				return &Exit{Class: Hung, Cause: "it was to be used again, and no completion came back: " + err.Error()}
			}
			future = outlook{}
			s.enterAlive(nil)
			if verdict := s.heed(looking, &future, ask, lookers.Go); verdict != nil { // what came meanwhile
				return verdict
			}
		case <-s.judged:
			if future.works() {
				s.enterAlive(nil)
			}
		case <-s.sentenced:
			if verdict := s.sentenceOn(p.id()); verdict != nil {
				return verdict
			}
		case <-silence.C:
			// The verdict needs evidence: a look not long ago that saw no life.
			// Without one it was llmsup that slept (SIGSTOP, a paused machine).
			if time.Since(newestAt) > 2*s.lookEvery()+probeAnswer || newest.alive(last) {
				last.at = time.Now()
				silence.Reset(s.spec.StallTimeout)
				continue
			}
			return &Exit{Class: Hung, Cause: fmt.Sprintf("it showed no sign of life for %s: %s", s.spec.StallTimeout, newest.words())}
		}
	}
}

// lookEvery is the pace of looks at a ready server.
func (s *Server) lookEvery() time.Duration { return min(lookEvery, s.spec.StallTimeout/4) }

// look looks at the server again and again, on connections of its own, and
// hands on what it sees. A question that hangs delays nobody but the next one.
func (s *Server) look(ctx context.Context, ask engine, looks chan<- vitals) {
	tick := time.NewTicker(s.lookEvery())
	defer tick.Stop()
	worked, bytes := time.Now(), int64(0)
	var spent cpuMeter
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := ask.vitals(ctx)
		traffic := s.spec.Traffic()
		now.calls, now.bytes = traffic.Waiting, traffic.Bytes
		members, gpuOpen := s.Processes()
		now.at = time.Now() // of the CPU time: on a busy machine the answers may have taken a second
		now.cpu, now.usesGPU = spent.read(members), gpuOpen()
		if traffic.Calls > 0 || now.bytes != bytes {
			worked, bytes = now.at, now.bytes
		}
		if now.health && now.at.Sub(worked) >= canaryAfter {
			canary, cancel := context.WithTimeout(ctx, s.spec.StallTimeout)
			if err := ask.complete(canary); err != nil {
				now.slots = false // as good as hanging: asked again at the next look
				s.log.Warn().Err(err).Msg("llama-server was idle and did not answer a completion")
			} else {
				worked = time.Now()
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case looks <- now:
		}
	}
}
