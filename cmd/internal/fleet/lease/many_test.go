package lease

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

// slowBucket is a bucket at some distance, which many boxes use at the same time. It works in
// virtual time: the figures do not depend on the machine.
type slowBucket struct {
	latency time.Duration // until an answer has come

	mu             sync.Mutex
	records        map[string]*Record
	revisions      map[string]uint64
	tried, written int
	asked          int
	boxes          []*distantBox
}

// distantBox is a box that uses it.
type distantBox struct {
	name     string
	budget   *budget.Budget
	replaced *names
	needs    chan need
}

func (b *slowBucket) read(_ context.Context, window string) (*Record, uint64, error) {
	time.Sleep(b.latency / 2)
	b.mu.Lock()
	r, revision := b.records[window], b.revisions[window]
	b.mu.Unlock()
	time.Sleep(b.latency / 2)
	if r == nil {
		r = &Record{Window: window}
	}
	return r, revision, nil
}

func (b *slowBucket) write(_ context.Context, r *Record, revision uint64) (uint64, error) {
	time.Sleep(b.latency / 2)
	b.mu.Lock()
	b.tried++
	conflict := b.revisions[r.Window] != revision
	if !conflict {
		b.written++
		b.records[r.Window], b.revisions[r.Window] = r, revision+1
	}
	b.mu.Unlock()
	time.Sleep(b.latency / 2)
	if conflict {
		return 0, errConflict
	}
	for _, other := range b.boxes {
		other.replaced.add(r.Window)
	}
	return revision + 1, nil
}

// contention is what it takes to share a limit among many boxes.
type contention struct {
	bucket   *slowBucket
	calls    int
	waits    []time.Duration // of the calls that did not get credit at once, sorted
	duration time.Duration
}

func (c *contention) longest() time.Duration {
	if len(c.waits) == 0 {
		return 0
	}
	return c.waits[len(c.waits)-1]
}

func (c *contention) String() string {
	return fmt.Sprintf("%d calls in %s; the record was written %d times, with %.2f tries each; boxes asked others %d times; %d calls waited for credit, %s (median), %s at most",
		c.calls, c.duration.Round(time.Millisecond), c.bucket.written, float64(c.bucket.tried)/float64(max(c.bucket.written, 1)), c.bucket.asked, len(c.waits),
		c.waits[len(c.waits)/2].Round(time.Millisecond), c.longest().Round(time.Millisecond))
}

// contend has n boxes spend a limit at the same time with calls of one price, which a box makes one
// after the other until the rest is too small for one.
func contend(t *testing.T, n int, latency, pause time.Duration) (x *till, c *contention) {
	const limit, price = usd.Dollar, usd.Dollar / 1000
	ctx, cancel := context.WithCancel(t.Context())
	x = &till{limit: limit}
	c = &contention{bucket: &slowBucket{latency: latency, records: map[string]*Record{}, revisions: map[string]uint64{}}}
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("box", i))
		b := &distantBox{name: all[i], budget: budget.New(budget.Config{}, nil), replaced: &names{wake: make(chan struct{}, 1)}, needs: make(chan need, 64)}
		c.bucket.boxes = append(c.bucket.boxes, b)
	}
	var running, spending sync.WaitGroup
	for _, b := range c.bucket.boxes {
		b.budget.CountLeases(time.Now())
		l := New(Options{Budget: b.budget, Ledger: "of " + b.name, Log: zerolog.Nop()})
		l.SetLimits(1, daily(limit))
		s := &session{bucket: c.bucket, box: b.name, present: func() []string { return all }, ask: func(m need) {
			c.bucket.mu.Lock()
			defer c.bucket.mu.Unlock()
			c.bucket.asked++
			for _, other := range c.bucket.boxes {
				if other != b {
					select {
					case other.needs <- m:
					default:
					}
				}
			}
		}}
		running.Go(func() { _ = l.run(ctx, s, b.replaced, b.needs) })
	}
	time.Sleep(time.Minute) // all have their first credit
	c.bucket.mu.Lock()
	c.bucket.tried, c.bucket.written = 0, 0
	c.bucket.mu.Unlock()
	began := time.Now()
	var mu sync.Mutex
	for i, b := range c.bucket.boxes {
		spending.Go(func() {
			time.Sleep(pause * time.Duration(i) / time.Duration(n))
			for x.sum() <= limit-price {
				asked := time.Now()
				for {
					r, exceeded := b.budget.Reserve(time.Now(), "", price)
					if exceeded == nil {
						r.Settle(price)
						x.pay(price)
						break
					}
					if time.Sleep(20 * time.Millisecond); x.sum() > limit-price {
						return
					}
					if time.Since(asked) > time.Hour {
						t.Errorf("%s gets no credit", b.name)
						return
					}
				}
				mu.Lock()
				c.calls++
				if d := time.Since(asked); d > 0 {
					c.waits = append(c.waits, d)
				}
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	spending.Wait()
	c.duration = time.Since(began)
	cancel()
	running.Wait()
	slices.Sort(c.waits)
	return x, c
}

// longest is more than a call waits for credit, at the end of a limit too.
const longest = 8 * time.Second

// TestManyBoxes: many boxes spend a small limit within ten seconds, on a bucket that is near, as in
// one network, and on one that is busy. It is never exceeded, and all of it can be spent but less
// than a call.
func TestManyBoxes(t *testing.T) {
	for _, n := range []int{3, 10, 30} {
		for _, latency := range []time.Duration{2 * time.Millisecond, 25 * time.Millisecond} {
			t.Run(fmt.Sprintf("%d boxes, %s", n, latency), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					x, c := contend(t, n, latency, time.Duration(n)*10*time.Millisecond)
					x.check(t)
					t.Log(c.String())
					if c.longest() > longest {
						t.Errorf("a call has waited for credit for %s", c.longest())
					}
				})
			})
		}
	}
}
