package threeboxes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/usd"
)

// mostTokens is the most that an answer of a paid call has here.
const mostTokens = 60

// TestBudget: the fleet never exceeds its budget, also while one box is cut off from NATS and
// another one is killed. Once all are back, the whole budget can be spent, on any box.
func TestBudget(t *testing.T) {
	const limit = usd.Dollar / 10
	f := startFleet(t, 3, 8, limit)
	var load sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer func() { // also if the test fails meanwhile
		stop()
		load.Wait()
	}()
	s := &spending{fleet: f}
	load.Go(func() { s.run(ctx, t) })

	s.awaitAnswers(t, 50)
	heal := cut(f.boxes[0].host, f.natsAt, true, true)
	s.awaitAnswers(t, 50)
	f.boxes[1].kill()
	s.awaitAnswers(t, 50)
	f.boxes[1].start(firstVersion, false)
	f.awaitDropped(t, f.boxes[2], f.boxes[0])
	heal()
	f.awaitWhole(t)
	await(t, "the budget spent", func() bool {
		shared := f.boxes[0].fleetBudget()
		if shared == nil || limit-usd.Amount(shared.Spent) >= mostTokens*tokenPrice {
			return false // a busy machine may make no call for a while
		}
		f.paid.mu.Lock()
		defer f.paid.mu.Unlock()
		return time.Since(f.paid.last) > 5*time.Second
	})
	stop()
	load.Wait()
	charged := f.checkLedgers(t)
	f.checkFleetBudget(t, charged)
	if left := limit - charged; left < 0 || left >= mostTokens*tokenPrice {
		t.Errorf("%s of %s USD are spent: another call would fit", charged, limit)
	}
	t.Logf("%d answers, %d rejections, %d calls cut by the kill", s.answered, s.rejected, s.cut)
}

// spending makes paid calls only, and counts how they end.
type spending struct {
	fleet *fleet

	mu                      sync.Mutex
	answered, rejected, cut int
	made                    int
}

// run makes calls until ctx ends, and returns when all have ended.
func (s *spending) run(ctx context.Context, t *testing.T) {
	var calls sync.WaitGroup
	defer calls.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate()))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			calls.Go(func() { s.one(t) })
		}
	}
}

func (s *spending) one(t *testing.T) {
	c := s.fleet.clients
	s.mu.Lock()
	s.made++
	id, b := fmt.Sprint("paid-", s.made), s.fleet.boxes[s.made%len(s.fleet.boxes)]
	s.mu.Unlock()
	kills := b.kills.Load()
	call := &call{id: id, model: "paid", messages: []message{{"user", question}}, tokens: 1 + rand.IntN(mostTokens), stream: rand.IntN(2) == 0}
	c.mu.Lock()
	c.attempts[id] = attempt{box: b}
	c.mu.Unlock()
	reply, err := c.ask(b, id, call)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && reply.text == count(1, call.tokens):
		s.answered++
		c.record(b, id, call, &reply)
	case err == nil:
		t.Errorf("%s, by %s: the text is %q", id, b.name, reply.text)
	case strings.Contains(err.Error(), "insufficient_quota"):
		s.rejected++
	case isReset(err) && (!reply.begun || b.kills.Load() > kills):
		s.cut++
	default:
		t.Errorf("%s, by %s: %v", id, b.name, err)
	}
}

// awaitAnswers waits until n more calls have their answers.
func (s *spending) awaitAnswers(t *testing.T, n int) {
	t.Helper()
	answered := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.answered
	}
	before := answered()
	await(t, fmt.Sprint(n, " calls answered"), func() bool { return answered() >= before+n })
}
