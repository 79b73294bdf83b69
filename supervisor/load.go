package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	loadLookEvery = 100 * time.Millisecond
	membersEvery  = time.Second
	// loadProgress is how much a process has to have read, or to have grown, to
	// be making progress, in bytes. Its answers to probes are far below it.
	loadProgress = 1 << 20
	// completeAgain is the pause after a completion that failed.
	completeAgain = time.Second
	// sleptWhile is how late a look must be for llmsup to have slept.
	sleptWhile = 5 * time.Second
)

// progress tells whether processes are getting on with a model. What one of them
// has done is compared with what it had done before, so that neither the end of
// a helper nor a new one hides the others' work.
type progress struct {
	lines uint64 // printed
	marks map[int]work
}

// made says whether there was progress since it was last found, and remembers
// it then. Once the model is loaded, lines are none: the probes themselves make
// some.
func (p *progress) made(lines uint64, works map[int]work, loaded bool) bool {
	found := !loaded && lines > p.lines
	p.lines = max(p.lines, lines)
	for pid, now := range works {
		mark := p.marks[pid]
		if now.read >= mark.read+loadProgress || now.resident >= mark.resident+loadProgress {
			found = true
			p.marks[pid] = work{read: max(now.read, mark.read), resident: max(now.resident, mark.resident)}
		}
	}
	return found
}

// load follows a process until it is ready, which it has proven by answering a
// completion, or until there is a verdict on it, or it or ctx ends.
//
// There is no deadline for loading as such: 40 GB from a slow disk take their
// time. What ends it is LoadTimeout without progress.
func (s *Server) load(ctx context.Context, p child, ask engine) (readyAt time.Time, verdict *Exit) {
	began := time.Now()
	probing, stopProbing := context.WithCancel(ctx)
	type outcome struct {
		properties
		direct bool
		err    error
	}
	proof := make(chan outcome, 1)
	var doubt atomic.Pointer[error] // why a loaded model is not ready
	go func() {
		props, direct, err := s.prove(probing, p, ask, &doubt)
		proof <- outcome{props, direct, err}
	}()
	defer func() {
		stopProbing()
		if proof != nil {
			<-proof
		}
	}()

	var members []int
	var countedAt time.Time
	works := func() map[int]work {
		// A wrapper may start llama-server at any time; who belongs to it costs more
		// to find out than how far it is.
		if time.Since(countedAt) > membersEvery {
			members, countedAt = withMembers(p.id()), time.Now()
			s.kills.look()
		}
		return worksOf(members)
	}
	so := progress{marks: map[int]work{}}
	bestAt, lookedAt := began, began
	tick := time.NewTicker(loadLookEvery)
	defer tick.Stop()
	for {
		s.turns.turn()
		select {
		case <-ctx.Done():
			return time.Time{}, nil
		case <-p.done():
			return time.Time{}, nil
		case <-tick.C:
			// What llmsup has slept (SIGSTOP, a paused machine) is not the child's.
			if slept := time.Since(lookedAt); slept > sleptWhile {
				bestAt = bestAt.Add(slept)
			}
			lookedAt = time.Now()
			why := doubt.Load()
			if so.made(s.output.count(), works(), why != nil) {
				bestAt = time.Now()
			} else if quiet := time.Since(bestAt); quiet >= s.spec.LoadTimeout {
				return time.Time{}, stalled(quiet, why)
			}
		case <-s.orders.came:
			o, h := s.orders.now(), s.orders.held()
			if o.replace || h != nil { // there is nothing to keep yet
				return time.Time{}, s.relieved(o, h)
			}
		case <-s.sentenced:
			if verdict := s.sentenceOn(p.id()); verdict != nil {
				return time.Time{}, verdict
			}
		case got := <-proof:
			proof = nil
			if ctx.Err() != nil {
				return time.Time{}, nil
			}
			if got.err != nil {
				return time.Time{}, &Exit{Class: PortTaken, Cause: got.err.Error() + ": it gets no calls"}
			}
			s.ready(got.properties, got.direct, time.Since(began))
			return time.Now(), nil
		}
	}
}

func stalled(quiet time.Duration, why *error) *Exit {
	cause := fmt.Sprintf("it made no progress in loading for %s: no output, no reading, no growth", quiet.Round(time.Second))
	if why != nil {
		cause = fmt.Sprintf("it has loaded its model, and for %s no completion came back: %v", quiet.Round(time.Second), *why)
	}
	return &Exit{Class: Stalled, Cause: cause}
}

// prove asks until the engine is loaded, listens as the right process, and
// answers a completion; doubt says why a loaded one has not yet. Its only error,
// but for the end of ctx, is errImpostor.
func (s *Server) prove(ctx context.Context, p child, ask engine, doubt *atomic.Pointer[error]) (props properties, direct bool, err error) {
	tick := time.NewTicker(loadLookEvery / 2)
	defer tick.Stop()
	proven := false
	for {
		err := ask.health(ctx)
		if !proven && (err == nil || errors.Is(err, errLoading)) { // somebody listens: who?
			var ownerErr error
			if direct, ownerErr = ask.listener(ctx, p.id()); errors.Is(ownerErr, errImpostor) {
				return properties{}, false, ownerErr
			}
			proven = ownerErr == nil
		}
		if err == nil && proven {
			err := ask.complete(ctx)
			if err == nil {
				props, _ := ask.props(ctx) // a build without /props: its slots stay unknown
				return props, direct, nil
			}
			doubt.Store(&err)
			tick.Reset(completeAgain)
		}
		select {
		case <-ctx.Done():
			return properties{}, false, ctx.Err()
		case <-tick.C:
		}
	}
}

// ready publishes that the server answers.
func (s *Server) ready(props properties, direct bool, took time.Duration) {
	s.serving.Store(true)
	s.enterAlive(func(n *Snapshot) {
		n.Slots, n.Direct, n.LoadDuration = props.slots, direct, took
		if props.ctxSize > 0 {
			n.CtxSize = props.ctxSize
		}
	})
	s.log.Info().Int("slots", props.slots).Int("ctx_size", props.ctxSize).Int64("load_ms", took.Milliseconds()).Msg("llama-server is ready")
}
