package feed

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a daemon whose state the test sets. It implements all that a Feed reads.
type box struct {
	mu       sync.Mutex
	status   control.Status
	calls    []Call
	ended    int64
	last     []EndedCall
	usage    control.Usage
	usageErr error
	changed  chan struct{}
	reads    int // of the status
	sums     int // of the usage
	boxes    control.Boxes
	asked    int // the fleet
}

func newBox() *box {
	return &box{changed: make(chan struct{}), status: control.Status{Servers: []control.Server{{Name: "qwen", State: "ready", Model: "/srv/models/qwen.gguf"}}}}
}

// set changes the state. With notify, it is a change of a server.
func (b *box) set(notify bool, change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
	if notify {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

func (b *box) Status() control.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	return b.status
}

func (b *box) Models() []control.Model {
	return []control.Model{{Name: "qwen", Load: "on_demand", Pinned: true, Model: "/srv/models/qwen.gguf"}}
}

func (b *box) Changes() []<-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []<-chan struct{}{b.changed}
}

func (b *box) InFlight() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

func (b *box) Ended() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

func (b *box) LastEnded() []EndedCall {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *box) Routes(key string) []Route { return []Route{{Name: "local for " + key}} }

func (b *box) Usage(context.Context, time.Time, time.Time, string) (control.Usage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sums++
	return b.usage, b.usageErr
}

func (b *box) Boxes() control.Boxes {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.boxes
}

func (b *box) FleetUsage(_ context.Context, _, _ time.Time, by string) (u control.Usage, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	u.Total.Calls, u.Answered, u.Missing = int64(b.asked), []string{"gpu1"}, []control.MissingBox{{Box: "gpu3", Why: "has not answered within 2s"}}
	return u, nil
}

// run runs a feed of a box until the test ends. It is called in a bubble of synctest.
func run(t *testing.T, b *box) *Feed {
	t.Helper()
	f := New(Options{Daemon: b, Traffic: b, Spending: b, Fleet: b, Box: Box{Name: "gpu1", Started: time.Now()}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return f
}

// next returns the sections of the next update within a time; nil = there was none.
func next(t *testing.T, r *Reader, within time.Duration) (sections map[string]json.RawMessage, u Update) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	u, err := r.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, u
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte("{"+string(u.Sections)+"}"), &sections); err != nil {
		t.Fatalf("%v\n%s", err, u.Sections)
	}
	return sections, u
}

// settle reads updates until there is none for some seconds, and returns the ID of the last.
func settle(t *testing.T, r *Reader) (id string) {
	t.Helper()
	for {
		sections, u := next(t, r, 8*time.Second)
		if sections == nil {
			return id
		}
		id = u.ID
	}
}

func TestSnapshotThenChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		f := run(t, b)
		r := f.Subscribe(Viewer{Operator: true}, "")
		defer r.Close()
		all, u := next(t, r, time.Second)
		if !u.Full || len(all) != 14 {
			t.Errorf("full %t, %d sections", u.Full, len(all))
		}
		if s := string(all["servers"]); !strings.Contains(s, `"load":"on_demand","pinned":true`) || !strings.Contains(s, `"/srv/models/qwen.gguf"`) {
			t.Errorf("servers: %s", s)
		}
		settle(t, r)

		// A server's state arrives at once, and alone.
		b.set(true, func() { b.status.Servers = []control.Server{{Name: "qwen", State: "draining"}} })
		began := time.Now()
		news, u := next(t, r, time.Second)
		if took := time.Since(began); took > minInterval || u.Full || news["box"] != nil || !strings.Contains(string(news["servers"]), "draining") {
			t.Errorf("after %s, full %t: %s", took, u.Full, u.Sections)
		}

		// A counter arrives within a second.
		b.set(false, func() { b.calls = []Call{{ID: "one", Key: "a"}} })
		if news, u = next(t, r, maxInterval+time.Millisecond); news["box"] != nil || !strings.Contains(string(news["inflight"]), `"total":1`) {
			t.Errorf("%s", u.Sections)
		}
	})
}

// TestSlowReader: a reader that misses changes gets the latest state once.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		f := run(t, b)
		r := f.Subscribe(Viewer{Operator: true}, "")
		defer r.Close()
		settle(t, r)
		for _, state := range []string{"draining", "drained", "starting"} {
			b.set(true, func() { b.status.Servers = []control.Server{{Name: "qwen", State: state}} })
			time.Sleep(2 * time.Second)
		}
		if news, u := next(t, r, time.Second); !strings.Contains(string(news["servers"]), "starting") {
			t.Errorf("%s", u.Sections)
		}
		if news, _ := next(t, r, 3*time.Second); news != nil {
			t.Errorf("a second update: %v", news)
		}
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		f := run(t, b)
		first := f.Subscribe(Viewer{Key: "a"}, "")
		id := settle(t, first)
		first.Close()
		b.set(true, func() { b.calls = []Call{{ID: "one", Key: "a"}} })
		for name, tc := range map[string]struct {
			viewer Viewer
			id     string
			want   bool
		}{
			"the same":        {Viewer{Key: "a"}, id, true},
			"another viewer":  {Viewer{Key: "b"}, id, false},
			"another epoch":   {Viewer{Key: "a"}, "OTHER.1-1", false},
			"a later version": {Viewer{Key: "a"}, id + "0", false},
			"no ID":           {Viewer{Key: "a"}, "nonsense", false},
		} {
			r := f.Subscribe(tc.viewer, tc.id)
			if resumed := r.Resumed() != ""; resumed != tc.want {
				t.Errorf("%s: resumed %t", name, resumed)
			}
			news, u := next(t, r, time.Second)
			if u.Full == tc.want || news == nil || tc.want && !strings.Contains(string(news["inflight"]), "one") {
				t.Errorf("%s: full %t: %s", name, u.Full, u.Sections)
			}
			if tc.want && news["box"] != nil {
				t.Errorf("%s: unchanged sections: %s", name, u.Sections)
			}
			r.Close()
		}
	})
}

// TestNoPageNoWork: without a page, only the history is sampled.
func TestNoPageNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		f := run(t, b)
		r := f.Subscribe(Viewer{Operator: true}, "")
		settle(t, r)
		r.Close()
		time.Sleep(2 * time.Second) // the last computation
		b.mu.Lock()
		b.reads, b.sums = 0, 0
		b.mu.Unlock()
		time.Sleep(10 * sampleInterval)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.reads < 9 || b.reads > 11 || b.sums != 0 {
			t.Errorf("%d readings of the status and %d sums in %s", b.reads, b.sums, 10*sampleInterval)
		}
	})
}

// TestViewers: what a key that is no operator's may see.
func TestViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		b.status.Servers[0].LastExit = &control.LastExit{Class: "crash", Tail: []string{"a prompt"}}
		b.status.GPUs = []control.GPU{{UUID: "GPU-1", Processes: []control.GPUProcess{{PID: 1, Program: "secret-game"}}}}
		b.status.Budgets = []control.Budget{{Key: "", Period: "daily"}, {Key: "mine", Period: "monthly"}, {Key: "theirs", Period: "monthly"}}
		b.calls = []Call{{ID: "1", Key: "mine"}, {ID: "2", Key: "theirs"}, {ID: "3"}}
		paid, saved := control.USD(7), control.USD(9)
		b.usage = control.Usage{Total: control.Sums{Calls: 30}, Groups: []control.UsageGroup{
			{Name: "mine", Sums: control.Sums{Calls: 5, Local: 2, Failed: 1, Cost: &paid, Saved: &saved}}, {Name: "theirs", Sums: control.Sums{Calls: 25}},
		}}
		f := run(t, b)
		for name, tc := range map[string]struct {
			viewer     Viewer
			has, hides []string
		}{
			"operator": {Viewer{Operator: true}, []string{"a prompt", "secret-game", "theirs", "/srv/models", `"total":3`, `"calls":30`}, nil},
			"key":      {Viewer{Key: "mine"}, []string{"crash", "GPU-1", `"total":1`, `"calls":5`, `"cloud_calls":2`, "local for mine"}, []string{"a prompt", "secret-game", "theirs", "/srv/models"}},
			"no key":   {Viewer{}, []string{"crash", `"total":1`, `"calls":0`}, []string{"a prompt", "secret-game", "theirs", "mine", "/srv/models"}},
		} {
			r := f.Subscribe(tc.viewer, "")
			settle(t, r)
			r.Close()
			r = f.Subscribe(tc.viewer, "")
			_, u := next(t, r, time.Second)
			for _, text := range tc.has {
				if !strings.Contains(string(u.Sections), text) {
					t.Errorf("%s: no %s in %s", name, text, u.Sections)
				}
			}
			for _, text := range tc.hides {
				if strings.Contains(string(u.Sections), text) {
					t.Errorf("%s: %s in %s", name, text, u.Sections)
				}
			}
			r.Close()
		}
	})
}

// TestToday: the day's sums are added up when a call has ended, not more often than every
// five seconds, and are unknown if the ledger cannot be read.
func TestToday(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		b.usage.Total.Calls = 1
		f := run(t, b)
		r := f.Subscribe(Viewer{Operator: true}, "")
		defer r.Close()
		settle(t, r)
		b.set(false, func() { b.sums = 0 })
		for range 20 {
			b.set(false, func() { b.ended++; b.usage.Total.Calls++ })
			time.Sleep(500 * time.Millisecond)
		}
		settle(t, r)
		b.mu.Lock()
		if b.sums < 2 || b.sums > 4 {
			t.Errorf("%d sums", b.sums)
		}
		b.mu.Unlock()
		b.set(false, func() { b.ended++; b.usageErr = errors.New("the ledger is disabled") })
		for range 10 {
			if news, _ := next(t, r, todayInterval+2*maxInterval); news["today"] != nil {
				if !strings.Contains(string(news["today"]), `"calls":null`) {
					t.Errorf("%s", news["today"])
				}
				return
			}
		}
		t.Error("no update")
	})
}

// TestFleet: without a fleet the section is null, and no box is asked. With one, all viewers see the
// boxes, and an operator their addresses and sums, for which the boxes are asked every ten seconds.
func TestFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox()
		f := run(t, b)
		operator, other := f.Subscribe(Viewer{Operator: true}, ""), f.Subscribe(Viewer{Key: "a"}, "")
		defer other.Close()
		all, _ := next(t, operator, time.Second)
		if s := string(all["fleet"]); s != "null" {
			t.Errorf("without a fleet: %s", s)
		}
		settle(t, operator)
		settle(t, other)
		b.set(false, func() {
			b.boxes = control.Boxes{
				Fleet: &control.Fleet{Box: "gpu1", Joined: true}, Absent: []control.AbsentBox{{Name: "gpu3", Address: "http://secret3"}},
				Boxes: []control.Box{{This: true, Box: fleet.Box{Name: "gpu1", Address: "http://secret1", Seq: 7}}},
			}
			if b.asked > 0 {
				t.Error("boxes are asked without a fleet")
			}
		})
		time.Sleep(25 * time.Second)
		news, _ := next(t, operator, time.Second)
		s := string(news["fleet"])
		for _, want := range []string{`"box":"gpu1","joined":true`, `"address":"http://secret1"`, `"seq":0`, `"name":"gpu3","address":"http://secret3"`, `"calls":3,`, `"answered":1,"missing":[{"box":"gpu3","why":"has not answered within 2s"}]`} {
			if !strings.Contains(s, want) {
				t.Errorf("an operator sees no %s in %s", want, s)
			}
		}
		news, _ = next(t, other, time.Second)
		if s := string(news["fleet"]); strings.Contains(s, "secret") || !strings.Contains(s, `"today":null`) || !strings.Contains(s, `"name":"gpu3"`) {
			t.Errorf("a key that is no operator's sees %s", s)
		}
		operator.Close()
		time.Sleep(2 * time.Second)
		before := b.asked
		time.Sleep(time.Minute)
		if b.asked != before {
			t.Error("boxes are asked without the page of an operator")
		}
	})
}
