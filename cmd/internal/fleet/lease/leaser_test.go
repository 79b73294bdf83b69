package lease

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/usd"
)

func TestMain(m *testing.M) { fleettest.Main(m) }

const fleetKey = "0123456789abcdef0123456789abcdef"

// patience is how long a test waits for what is expected within a second or two.
const patience = 40 * time.Second

// box is a box with a ledger, and a process on it that a test can kill.
type box struct {
	t    *testing.T
	name string
	urls []string
	till *till

	mu     sync.Mutex
	rows   map[int]usd.Amount // the ledger: of each call its cost, or the estimate while it runs
	ended  map[int]bool
	number int

	process *process
}

// process is a process on a box. What a killed one does has no effect.
type process struct {
	budget *budget.Budget
	leaser *Leaser
	stop   func()
	killed bool
}

// till adds up what the boxes of a fleet have spent, what runs included, and checks the limit.
type till struct {
	mu    sync.Mutex
	spent usd.Amount
	limit usd.Amount
	over  usd.Amount // the highest excess
}

func (x *till) pay(amount usd.Amount) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.spent += amount
	x.over = max(x.over, x.spent-x.limit)
}

func (x *till) sum() usd.Amount {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.spent
}

func newBox(t *testing.T, x *till, name string, urls ...string) *box {
	b := &box{t: t, name: name, urls: urls, till: x, rows: map[int]usd.Amount{}, ended: map[int]bool{}}
	b.start()
	t.Cleanup(func() { b.process.stop() })
	return b
}

// start starts a process.
func (b *box) start() {
	b.t.Helper()
	key := filepath.Join(b.t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(fleetKey), 0o600); err != nil {
		b.t.Fatal(err)
	}
	p := &process{budget: budget.New(budget.Config{}, nil)}
	p.budget.CountLeases(time.Now())
	b.mu.Lock()
	running := b.number
	b.mu.Unlock()
	p.leaser = New(Options{Budget: p.budget, Ledger: "of " + b.name, Log: zerolog.Nop(), Spent: func(_ context.Context, from, _ time.Time) (map[string]usd.Amount, error) {
		if from.After(time.Now()) {
			return nil, nil
		}
		return b.spentBefore(running), nil
	}})
	p.leaser.SetLimits(1, daily(b.till.limit))
	m := fleet.New(fleet.Options{
		Settings: fleet.Settings{NATS: b.urls, Name: b.name, Advertise: "http://" + b.name + ":8000", KeyFile: key},
		State:    func() fleet.Box { return fleet.Box{Version: "test"} }, Changes: func() []<-chan struct{} { return nil },
		Services: []fleet.Service{p.leaser}, Log: zerolog.Nop(),
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	p.stop = func() { cancel(); <-done }
	b.mu.Lock()
	defer b.mu.Unlock()
	b.process = p
}

func daily(limit usd.Amount) budget.Config {
	return budget.Config{Limits: budget.Limits{Daily: &limit}}
}

// spentBefore is the ledger: the calls of ended processes, and those of this one that have ended.
func (b *box) spentBefore(running int) map[string]usd.Amount {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := usd.Amount(0)
	for n, amount := range b.rows {
		if n <= running || b.ended[n] {
			sum += amount
		}
	}
	return map[string]usd.Amount{"": sum}
}

// kill ends the process: nothing is given back, and its calls count with their estimates.
func (b *box) kill() {
	b.mu.Lock()
	b.process.killed = true
	b.mu.Unlock()
	b.process.stop()
}

// call makes a call that takes a moment, and reports whether the budget allowed it.
func (b *box) call(estimate, actual usd.Amount, during func()) bool {
	b.mu.Lock()
	p := b.process
	if p.killed {
		b.mu.Unlock()
		return false
	}
	r, exceeded := p.budget.Reserve(time.Now(), "", estimate)
	if exceeded != nil {
		b.mu.Unlock()
		return false
	}
	b.number++
	number := b.number
	b.rows[number] = estimate
	b.till.pay(estimate)
	b.mu.Unlock()
	during()
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.killed {
		return true
	}
	r.Settle(actual)
	b.rows[number], b.ended[number] = actual, true
	b.till.pay(actual - estimate)
	return true
}

// pay makes calls of an amount, until the budget has allowed n of them.
func (b *box) pay(n int, amount usd.Amount) {
	b.t.Helper()
	for late := time.Now().Add(patience); n > 0; {
		if b.call(amount, amount, func() {}) {
			n--
		} else {
			b.wait(late)
		}
	}
}

// wait waits as a client does that has got a 429.
func (b *box) wait(late time.Time) {
	b.t.Helper()
	if time.Now().After(late) {
		b.t.Fatalf("%s gets no credit: %+v", b.name, b.process.leaser.Status(nil))
	}
	time.Sleep(20 * time.Millisecond)
}

// spendAll spends on all boxes, in turn, until the limit is spent.
func spendAll(t *testing.T, x *till, boxes ...*box) {
	t.Helper()
	late := time.Now().Add(patience)
	for i := 0; x.sum() < x.limit; i++ {
		amount := min(x.limit-x.sum(), x.limit/50)
		for range 100 {
			b := boxes[i%len(boxes)]
			if b.call(amount, amount, func() {}) {
				break
			}
			b.wait(late)
		}
		if testing.Verbose() {
			t.Logf("%s %s", time.Now().Format("05.000"), x.sum())
		}
	}
	for _, b := range boxes {
		if b.call(1, 1, func() {}) {
			t.Errorf("%s spends more than the limit", b.name)
		}
	}
}

func (x *till) check(t *testing.T) {
	t.Helper()
	if x.over > 0 {
		t.Errorf("the limit of %s was exceeded by %s", x.limit, x.over)
	}
}

// TestShare: all boxes together can spend the limit, to the last picodollar, and no more.
func TestShare(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	x := &till{limit: usd.Dollar}
	a, b, c := newBox(t, x, "a", server.URL), newBox(t, x, "b", server.URL), newBox(t, x, "c", server.URL)
	a.pay(5, cent)
	b.pay(1, 30*cent) // more than its share
	spendAll(t, x, a, b, c)
	x.check(t)
	for late := time.Now().Add(patience); ; a.wait(late) {
		s := a.process.leaser.Status([]string{"a", "b", "c"})
		if len(s.Limits) == 1 && s.Problem == "" && s.Limits[0].Left == 0 && s.Limits[0].Spent == usd.Dollar && s.Limits[0].Gone == nil {
			break
		}
	}
}

// TestCut: a box that is cut off spends its slice and no more; the others have the rest.
func TestCut(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	wire := fleettest.StartProxy(t, server.URL)
	x := &till{limit: usd.Dollar}
	a, b := newBox(t, x, "a", wire.URL), newBox(t, x, "b", server.URL)
	a.pay(1, cent)
	b.pay(1, cent)
	wire.Cut()
	for a.call(cent, cent, func() {}) {
	}
	alone := x.sum() - 2*cent
	if alone <= 0 || alone > 50*cent {
		t.Errorf("alone it has spent %s", alone)
	}
	late := time.Now().Add(patience)
	for x.sum() < 70*cent {
		if !b.call(cent, cent, func() {}) {
			b.wait(late)
		}
	}
	if a.call(50*cent, 0, func() {}) {
		t.Error("without a connection it gets more")
	}
	wire.Restore()
	spendAll(t, x, a, b)
	x.check(t)
}

// TestKilled: a box that is killed keeps what it holds, until it is back and knows what it has
// spent.
func TestKilled(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	x := &till{limit: usd.Dollar}
	a, b := newBox(t, x, "a", server.URL), newBox(t, x, "b", server.URL)
	a.pay(3, cent)
	b.pay(1, cent)
	release := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { a.call(5*cent, cent, func() { <-release }) })
	for late := time.Now().Add(patience); x.sum() < 9*cent; {
		a.wait(late)
	}
	a.kill()
	close(release)
	running.Wait()
	late := time.Now().Add(patience)
	for { // until b knows that a is gone
		b.call(95*cent, 0, func() {})
		if s := b.process.leaser.Status([]string{"b"}); len(s.Limits) == 1 && len(s.Limits[0].Gone) == 1 {
			if held := s.Limits[0].Gone[0]; held.Box != "a" || held.Amount <= 0 {
				t.Errorf("%+v", held)
			}
			alone := *b.process.leaser.known.Load()
			alone.problem = errNoConnection.Error()
			cutOff := &Leaser{o: b.process.leaser.o, wall: b.process.leaser.wall}
			cutOff.known.Store(&alone)
			if s := cutOff.Status([]string{"b"}); s.Limits[0].Gone != nil {
				t.Errorf("without NATS it names %+v as gone", s.Limits[0].Gone)
			}
			break
		}
		b.wait(late)
	}
	a.start()
	spendAll(t, x, a, b)
	x.check(t)
	if x.sum() != usd.Dollar {
		t.Errorf("%s of 1 USD can be spent", x.sum())
	}
}

// TestFaults: three boxes make calls while boxes are killed and cut off and the leader of the
// bucket is killed. The limit is never exceeded, and when all works again, all of it can be
// spent.
func TestFaults(t *testing.T) {
	t.Parallel()
	cluster := fleettest.StartCluster(t, 3)
	x := &till{limit: 10 * usd.Dollar}
	wires, boxes := []*fleettest.Proxy{}, []*box{}
	for i := range 3 {
		wire := fleettest.StartProxy(t, cluster.URLs[i])
		wires = append(wires, wire)
		urls := []string{wire.URL}
		for j := range 3 {
			if j != i {
				urls = append(urls, cluster.URLs[j])
			}
		}
		if i == 0 {
			urls = urls[:1] // it can be cut off
		}
		boxes = append(boxes, newBox(t, x, fmt.Sprintf("box%d", i), urls...))
	}
	ctx, stop := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for i, b := range boxes {
		for n := range 3 {
			random := rand.New(rand.NewPCG(uint64(i), uint64(n)))
			calls.Go(func() {
				for ctx.Err() == nil && x.sum() < 8*usd.Dollar {
					estimate := usd.Amount(random.Int64N(int64(3 * cent)))
					b.call(estimate, usd.Amount(random.Int64N(int64(estimate)+1)), func() { time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond) })
				}
			})
		}
	}
	boxes[0].pay(1, cent)
	leader := leaderOf(t, cluster)
	cluster.Kill(leader)
	wires[0].Cut()
	boxes[1].kill()
	boxes[2].pay(1, cent) // with the new leader
	cluster.Start(t, leader)
	wires[0].Restore()
	boxes[1].start()
	boxes[1].pay(1, cent)
	stop()
	calls.Wait()
	spendAll(t, x, boxes...)
	x.check(t)
}

// leaderOf returns the server that leads the bucket.
func leaderOf(t *testing.T, c *fleettest.Cluster) int {
	t.Helper()
	nc, err := nats.Connect(c.URLs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+bucketName)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Cluster.Replicas) != 2 {
		t.Errorf("the bucket has %d further copies", len(info.Cluster.Replicas))
	}
	for i, name := range c.Names {
		if name == info.Cluster.Leader {
			return i
		}
	}
	t.Fatalf("no leader: %+v", info.Cluster)
	return 0
}
