package gpu

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// FuzzNext checks the invariants of verdicts, for random samples in a random order.
func FuzzNext(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		j := newPolicyRun(DefaultPolicy())
		j.BusyFor = time.Duration(r.IntN(4)) * time.Second
		for range 60 {
			m := randomScenario(r)
			m.At = j.now
			before := j.clone()
			h, v := j.Next(j.History, &m.Sample, m.Server)
			again, same := j.Next(j.History, &m.Sample, m.Server)
			if !reflect.DeepEqual(v, same) || !reflect.DeepEqual(h, again) {
				t.Fatalf("the same gave\n%+v, %+v, then\n%+v, %+v", h, v, again, same)
			}
			if !reflect.DeepEqual(before, j.History) {
				t.Fatalf("the history was\n%+v, and is\n%+v", before, j.History)
			}
			checkVerdict(t, v, m)
			m.removeFigures()
			m.ActualContext = 0
			if _, silent := j.Next(h, &m.Sample, m.Server); !slices.EqualFunc(lasting(v), lasting(silent), func(a, b Condition) bool { return a == b }) {
				t.Fatalf("silence made %+v of %+v", silent.Conditions, v.Conditions)
			}
			problem(&m)
			if _, silent := j.Next(h, &m.Sample, m.Server); !slices.Equal(v.Conditions, silent.Conditions) || silent.Fatal != nil {
				t.Fatalf("a problem made %+v (%+v) of %+v", silent.Conditions, silent.Fatal, v.Conditions)
			}
			j.History, j.now = h, j.now.Add(time.Second)
		}
	})
}

// lasting returns the conditions that end only with a value. A GPU that is present and
// reports nothing is not lost and has no Xid.
func lasting(v Verdict) []Condition {
	return slices.DeleteFunc(slices.Clone(v.Conditions), func(f Condition) bool { return f.Reason == Lost || f.Reason == Xid })
}

func checkVerdict(t *testing.T, v Verdict, m scenario) {
	t.Helper()
	for _, f := range v.Conditions {
		if f.Message == "" || f.UUID != "" && !slices.Contains(m.Server.GPUs, f.UUID) {
			t.Fatalf("finding %+v for the GPUs %v", f, m.Server.GPUs)
		}
	}
	if v.Fatal != nil && (m.PID == 0 || !(v.Fatal.Reason == Lost || v.Fatal.Reason == Xid) || !slices.Contains(v.Conditions, *v.Fatal)) {
		t.Fatalf("fatal %+v with process %d and conditions %+v", *v.Fatal, m.PID, v.Conditions)
	}
}

// clone returns a deep copy.
func (h History) clone() History {
	h.streaks, h.gpus = maps.Clone(h.streaks), maps.Clone(h.gpus)
	for uuid, b := range h.gpus {
		b.foreign, b.ecc = copyOf(b.foreign), copyOf(b.ecc)
		h.gpus[uuid] = b
	}
	return h
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// randomScenario returns any scenario that is possible.
func randomScenario(r *rand.Rand) scenario {
	m := healthy()
	maybe := func(of int) bool { return r.IntN(of) == 0 }
	m.PID = ours + r.IntN(2)
	m.PIDs = []int{m.PID}
	if maybe(8) {
		m.PID, m.PIDs = 0, nil
	}
	m.Server.GPUs = [][]string{{first}, {second}, {first, second}, {first}, nil, {"GPU-unknown"}}[r.IntN(6)]
	m.Loaded, m.DeviceOpen, m.Calls = !maybe(4), !maybe(3), max(0, r.IntN(4)-2)
	m.Weights, m.ActualContext = []uint64{0, 8 * gib, 12 * gib, ^uint64(0)}[r.IntN(4)], []int{0, 4096, 8192}[r.IntN(3)]
	if maybe(10) {
		problem(&m)
		return m
	}
	for i := range m.Sample.GPUs {
		g := &m.Sample.GPUs[i]
		m.setForeign(i, []uint64{0, gib, 14 * gib, 15*gib - 100<<20}[r.IntN(4)])
		g.Utilization, g.Slowdown = new(r.IntN(3)*50), new(Slowdown(r.Uint64N(0x200)))
		g.ECCUncorrected = new(r.Uint64N(4))
		if maybe(6) {
			g.Xids = []uint64{r.Uint64N(128)}
		}
		if maybe(6) {
			*g.MemoryUsed, *g.MemoryFree = r.Uint64(), r.Uint64()
		}
		if maybe(4) {
			g.Processes, g.ProcessesKnown = nil, maybe(2)
		}
		if maybe(4) && len(g.Processes) > 0 {
			g.Processes[0].Memory = nil
		}
		for _, forget := range []func(){
			func() { g.MemoryFree = nil }, func() { g.MemoryUsed = nil }, func() { g.Utilization = nil },
			func() { g.Temperature = nil }, func() { g.Slowdown = nil }, func() { g.ECCUncorrected = nil },
		} {
			if maybe(5) {
				forget()
			}
		}
		if maybe(8) {
			m.lose(i)
		}
	}
	if maybe(12) {
		m.Sample.GPUs = m.Sample.GPUs[:r.IntN(2)]
	}
	return m
}
