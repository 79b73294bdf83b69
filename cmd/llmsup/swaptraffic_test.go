package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// swapTraffic makes calls for several models of an instance, and checks each answer: no call
// may fail, and none may be paid for twice.
type swapTraffic struct {
	t     *testing.T
	in    *instance
	cloud *countingCloud // nil = no fallback

	all   sync.WaitGroup
	mu    sync.Mutex
	ended []swapCall
	begun int
}

// swapCall is a call that has ended.
type swapCall struct {
	id, model, backend string
	took               time.Duration
	err                error
}

func newSwapTraffic(t *testing.T, in *instance, cloud *countingCloud) *swapTraffic {
	return &swapTraffic{t: t, in: in, cloud: cloud}
}

// call makes a call in the background. ended is closed when it has ended.
func (tr *swapTraffic) call(model string, tokens int, stream bool) (ended <-chan struct{}) {
	tr.mu.Lock()
	tr.begun++
	id := fmt.Sprintf("%s-%d", model, tr.begun)
	tr.mu.Unlock()
	done := make(chan struct{})
	tr.all.Go(func() {
		defer close(done)
		began := time.Now()
		backend, err := tr.in.countingCallTo("local/"+model, id, tokens, stream)
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.ended = append(tr.ended, swapCall{id, model, backend, time.Since(began), err})
	})
	return done
}

// alternate makes short calls at a rate, for each model in turn, until ctx ends. Every second
// round is of streams. It pauses while 30 calls are in flight: on a busy machine, a model loads for
// so long that its queue of 32 would be full.
func (tr *swapTraffic) alternate(ctx context.Context, perSecond int, models ...string) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if tr.inFlight() < 30 {
				tr.call(models[i%len(models)], 5+i%20, i/len(models)%2 == 0)
				i++
			}
		}
	}
}

func (tr *swapTraffic) inFlight() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.begun - len(tr.ended)
}

// eachSecond makes a short call for a model each second until ctx ends, unless so many wait already: on a busy machine
// the queue of the model would be full.
func (tr *swapTraffic) eachSecond(ctx context.Context, model string, most int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for made := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if made-tr.count(model, "") < most {
				tr.call(model, 5+made%20, made%2 == 0)
				made++
			}
		}
	}
}

// count returns how many calls for a model have ended that a backend answered; "" = any.
func (tr *swapTraffic) count(model, backend string) (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.ended {
		if (model == "" || c.model == model) && (backend == "" || c.backend == backend) {
			n++
		}
	}
	return n
}

// longest returns how long the longest of the calls for a model took that have ended.
func (tr *swapTraffic) longest(model string) (most time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.ended {
		if c.model == model {
			most = max(most, c.took)
		}
	}
	return most
}

// await waits until a backend has answered a number of calls for a model.
func (tr *swapTraffic) await(model, backend string, n int) {
	tr.t.Helper()
	if !eventually(testTimeout, func() bool { return tr.count(model, backend) >= n }) {
		tr.t.Fatalf("after %s %s has answered %d calls for %s, want %d", testTimeout, backend, tr.count(model, backend), model, n)
	}
}

// end waits until all calls have ended, and checks them. It logs how long they took.
func (tr *swapTraffic) end() {
	tr.t.Helper()
	tr.all.Wait()
	failed, byCloud := 0, 0
	var took []time.Duration
	for _, c := range tr.ended {
		took = append(took, c.took)
		if c.err != nil {
			if failed++; failed <= 5 {
				tr.t.Errorf("%s, by %q, after %s: %v", c.id, c.backend, c.took, c.err)
			}
		}
		if c.backend == "openrouter" {
			byCloud++
		}
		tr.checkPaid(c)
	}
	slices.Sort(took)
	if len(took) == 0 {
		tr.t.Fatal("no calls")
	}
	swaps := 0
	models, err := tr.in.client.Models(tr.t.Context())
	if err != nil {
		tr.t.Fatal(err)
	}
	for _, m := range models {
		swaps += m.Unloads["for_another"]
	}
	tr.t.Logf("%d calls, %d failed, %d by the cloud; p50 %s, p99 %s, longest %s; %d models left for others",
		len(took), failed, byCloud, took[len(took)/2], took[len(took)*99/100], took[len(took)-1], swaps)
}

// checkPaid checks that a call was paid for once if the cloud has answered it, and otherwise
// at most once: the cloud may have continued its answer.
func (tr *swapTraffic) checkPaid(c swapCall) {
	tr.t.Helper()
	if tr.cloud == nil {
		return
	}
	tr.cloud.mu.Lock()
	defer tr.cloud.mu.Unlock()
	if n := tr.cloud.paid[c.id]; n > 1 || n == 0 && c.backend == "openrouter" {
		tr.t.Errorf("%s, by %q, was paid for %d times", c.id, c.backend, n)
	}
}
