package threeboxes

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// faults are what happens to the fleet, mostly to one box, under load. When one returns, the
// fleet is as it was, or is about to be.
var faults = []struct {
	name string
	do   func(*fleet, *testing.T, *box)
}{
	{"none", func(f *fleet, t *testing.T, _ *box) { f.clients.awaitAnswers(t, 2*rate()) }},
	{"a box is killed", (*fleet).boxKilled},
	{"a llama-server is killed", (*fleet).engineKilled},
	{"the NATS server that leads is killed", (*fleet).leaderKilled},
	{"a box cannot send to the other boxes", func(f *fleet, t *testing.T, b *box) { f.partition(t, b, true, false) }},
	{"the other boxes cannot send to a box", func(f *fleet, t *testing.T, b *box) { f.partition(t, b, false, true) }},
	{"a box and the other boxes are cut off from each other", func(f *fleet, t *testing.T, b *box) { f.partition(t, b, true, true) }},
	{"a box cannot send to NATS", func(f *fleet, t *testing.T, b *box) { f.cutFromNATS(t, b, true, false) }},
	{"NATS cannot send to a box", func(f *fleet, t *testing.T, b *box) { f.cutFromNATS(t, b, false, true) }},
	{"a box and NATS are cut off from each other", func(f *fleet, t *testing.T, b *box) { f.cutFromNATS(t, b, true, true) }},
	{"a box is slow", (*fleet).boxSlow},
	{"a llama-server hangs", (*fleet).engineHangs},
	{"a clock is a second fast", (*fleet).clockFast},
	{"a drain", (*fleet).drained},
	{"a rolling upgrade", (*fleet).upgraded},
	{"the network is slow", (*fleet).networkSlow}, // the last one: its lines stay
}

// TestFaults: under 50 calls a second at all boxes, no call fails, each stream has its whole
// text, each paid call is made once, and the budgets count it exactly.
func TestFaults(t *testing.T) {
	f := startFleet(t, 3, 8, 1000*usd.Dollar)
	rounds := 1
	if long() {
		rounds = 5
	}
	for round := range rounds {
		for i, fault := range faults {
			t.Run(fault.name, func(t *testing.T) {
				// Another box each time.
				f.underLoad(t, f.boxes[(i+round)%len(f.boxes)], fault.do)
			})
		}
	}
	f.checkFleetBudget(t, f.checkLedgers(t))
}

// underLoad has the fault happen under load, and checks the calls.
func (f *fleet) underLoad(t *testing.T, b *box, fault func(*fleet, *testing.T, *box)) {
	began := time.Now()
	var load sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer func() { // also if the test fails meanwhile
		stop()
		load.Wait()
	}()
	load.Go(func() { f.clients.run(ctx, t) })
	f.clients.awaitAnswers(t, 25)
	fault(f, t, b)
	f.awaitWhole(t)
	f.clients.awaitAnswers(t, 25)
	stop()
	load.Wait()
	took := time.Since(began)
	charged := f.checkLedgers(t)
	if long() {
		f.checkFleetBudget(t, charged)
	}
	got := f.clients.takeFigures()
	t.Logf("%s, %.0f calls a second: %+v", took.Round(time.Millisecond), float64(got.calls)/took.Seconds(), got)
	if got.failed > 0 {
		t.Errorf("%d of %d calls failed", got.failed, got.calls)
	}
}

func (f *fleet) boxKilled(t *testing.T, b *box) {
	f.clients.awaitStream(t, b)
	b.kill()
	for _, other := range f.others(b) {
		f.awaitDropped(t, other, b)
	}
	b.start(firstVersion, false)
}

func (f *fleet) engineKilled(t *testing.T, b *box) {
	pid := b.engine()
	f.clients.awaitStream(t, b)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "another llama-server", func() bool { now := b.engine(); return now != 0 && now != pid })
}

func (f *fleet) leaderKilled(t *testing.T, _ *box) {
	leader := f.leader(t)
	f.nats.Kill(leader)
	f.clients.awaitAnswers(t, 5*rate()) // an election takes seconds
	f.nats.Start(t, leader)
}

// partition loses what b sends to the other boxes, or what they send to b.
func (f *fleet) partition(t *testing.T, b *box, out, in bool) {
	var others []*host
	for _, other := range f.others(b) {
		others = append(others, other.host)
	}
	defer cut(b.host, others, out, in)()
	f.clients.awaitAnswers(t, 6*rate()) // longer than it takes to find a dead connection
}

// cut loses what a host sends to others, or what they send to it, and returns what ends that.
func cut(h *host, others []*host, out, in bool) (heal func()) {
	if out {
		h.drop(others...)
	}
	if in {
		for _, other := range others {
			other.drop(h)
		}
	}
	return func() {
		h.heal(others...)
		for _, other := range others {
			other.heal(h)
		}
	}
}

// cutFromNATS loses what b sends to the NATS servers, or what they send to b. Meanwhile b is drained,
// so that its calls need the other boxes: it knows them while it is alone, and while it joins again.
func (f *fleet) cutFromNATS(t *testing.T, b *box, out, in bool) {
	f.drain(t, b)
	heal := cut(b.host, f.natsAt, out, in)
	for _, other := range f.others(b) {
		if out { // nothing of b arrives
			f.awaitDropped(t, other, b)
		}
		if in {
			f.awaitDropped(t, b, other)
		}
	}
	f.clients.awaitAnswers(t, 2*rate())
	heal()
	await(t, b.name+" in the fleet", func() bool {
		known, err := b.client.Boxes(t.Context())
		return err == nil && known.Fleet != nil && known.Fleet.Joined
	})
	f.clients.awaitAnswers(t, rate())
	f.resume(t, b)
}

// boxSlow stops the box for longer than it may be silent, and then has it run for a tenth of
// the time.
func (f *fleet) boxSlow(t *testing.T, b *box) {
	b.signal(syscall.SIGSTOP)
	defer b.signal(syscall.SIGCONT)
	for _, other := range f.others(b) {
		f.awaitDropped(t, other, b)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := range 300 {
		switch i % 10 {
		case 0:
			b.signal(syscall.SIGCONT)
		case 1:
			b.signal(syscall.SIGSTOP)
		}
		<-tick.C
	}
}

// engineHangs stops a llama-server until llmsup has replaced it.
func (f *fleet) engineHangs(t *testing.T, b *box) {
	pid := b.engine()
	f.clients.awaitStream(t, b)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, "another llama-server", func() bool { now := b.engine(); return now != 0 && now != pid })
}

func (f *fleet) clockFast(t *testing.T, b *box) {
	b.stop()
	b.start(firstVersion, true)
	f.awaitWhole(t)
	if least, most := b.ahead(t); most <= 0 || least > time.Second {
		t.Errorf("the clock of %s is %s to %s ahead", b.name, least, most)
	}
	f.clients.awaitAnswers(t, 2*rate())
	b.stop()
	b.start(firstVersion, false)
	f.awaitWhole(t)
	if least, _ := b.ahead(t); least > 0 {
		t.Errorf("the clock of %s is still %s ahead", b.name, least)
	}
}

// ahead returns the difference of the box's clock, rounded down to seconds, to that of the test: to when
// the box was asked and to when it has answered, which may be a while on a busy machine.
func (b *box) ahead(t *testing.T) (least, most time.Duration) {
	t.Helper()
	began := time.Now()
	resp, err := http.Get(b.url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(date), date.Sub(began)
}

// promptly is how soon all boxes see a drain.
const promptly = 100 * time.Millisecond

// drained drains a box and resumes it. If the other boxes see that late, it is repeated: a busy
// machine can be the reason. It is no failure unless the test is long, which is for a machine of its own.
func (f *fleet) drained(t *testing.T, b *box) {
	const tries = 4
	for try := 1; ; try++ {
		took := f.drain(t, b)
		t.Logf("the other boxes see the drain after %s", took.Round(time.Millisecond))
		f.clients.awaitAnswers(t, rate())
		f.resume(t, b)
		f.awaitWhole(t)
		if took <= promptly {
			return
		}
		if try == tries {
			if long() {
				t.Fatalf("the other boxes see none of %d drains within %s", tries, promptly)
			}
			return
		}
	}
}

// drain drains a box, and returns after what time the others have seen it.
func (f *fleet) drain(t *testing.T, b *box) (seen time.Duration) {
	t.Helper()
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		done <- b.client.Drain(context.WithoutCancel(t.Context()), control.DrainRequest{Yes: true}, func(control.Step) error { return nil })
	}()
	for _, other := range f.others(b) {
		await(t, "the drain of "+b.name+" seen by "+other.name, func() bool { return other.sees(b, true) })
	}
	seen = time.Since(began)
	if err := <-done; err != nil {
		t.Error(err)
	}
	return seen
}

func (f *fleet) resume(t *testing.T, b *box) {
	t.Helper()
	if err := b.client.Resume(t.Context(), nil, func(control.Step) error { return nil }); err != nil {
		t.Error(err)
	}
}

// sees returns whether the box sees that another one is drained, or not.
func (b *box) sees(other *box, drained bool) bool {
	known, err := b.client.Boxes(b.t.Context())
	if err != nil {
		return false
	}
	for _, o := range known.Boxes {
		if o.Name == other.name {
			return o.Drained == drained
		}
	}
	return false
}

// upgraded replaces the build of each box in turn, as the README says.
func (f *fleet) upgraded(t *testing.T, _ *box) {
	for _, b := range f.boxes {
		next := nextVersion
		if b.status().Version == next {
			next = firstVersion
		}
		f.drain(t, b)
		b.stop()
		b.start(next, false)
		await(t, fmt.Sprint(b.name, " with version ", next), func() bool { return b.status().Version == next })
		f.resume(t, b)
		f.awaitWhole(t)
	}
}
