package scheduler

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

var now = time.Unix(1_000_000, 0)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// on returns a placement on one GPU.
func on(gpu int, size float64) Placement { return Placement{{gpu, uint64(size * gib)}} }

// card is a GPU with 24 GiB.
func card(index int, free float64) GPU {
	return GPU{Name: fmt.Sprintf("GPU %d", index), Total: 24 * gib, Free: uint64(free * gib)}
}

// unread is a GPU of which the driver reports nothing now.
func unread(lost bool) GPU { return GPU{Name: "GPU 0", Unknown: true, Unread: "it hangs", Lost: lost} }

// model is one that needs some GiB on the first GPU and loads in 10 s.
func model(name string, size float64) Model {
	return Model{Name: name, Placements: []Placement{on(0, size)}, LoadTime: 10 * time.Second}
}

// anywhere is a model that can be on each of two GPUs, or evenly on both.
func anywhere(name string, size float64) Model {
	m := model(name, size)
	m.Placements = []Placement{on(0, size), on(1, size), append(on(0, size/2), on(1, size/2)...)}
	return m
}

// on makes one of a model's placements the only one.
func (m Model) on(choice int) Model {
	m.Placements = m.Placements[choice : choice+1]
	return m
}

func (m Model) loaded(since time.Duration) Model {
	m.Phase, m.Since, m.On, m.LastUsed = Loaded, ago(since), m.Placements[0], ago(since)
	return m
}

func (m Model) waiting(calls int, since time.Duration) Model {
	m.Waiting, m.Oldest = calls, ago(since)
	return m
}

// draining makes a loaded model one that is being unloaded and has some calls.
func (m Model) draining(calls int) Model {
	m.Phase, m.Draining, m.InFlight = Unloading, true, calls
	return m
}

func (m Model) with(change func(*Model)) Model {
	change(&m)
	return m
}

// describe writes a plan as one line.
func describe(p Plan) string {
	var parts []string
	for _, l := range p.Load {
		where := "no GPU"
		if len(l.On) > 0 {
			where = ""
			for _, share := range l.On {
				where += fmt.Sprint(share.GPU)
			}
		}
		parts = append(parts, "load "+l.Model+" on "+where)
	}
	for _, e := range p.Evict {
		text := "evict " + e.Model
		if e.For != "" {
			text += " for " + e.For
		}
		parts = append(parts, text)
	}
	for _, name := range p.Keep {
		parts = append(parts, "keep "+name)
	}
	for _, w := range p.Wait {
		text := w.Model + " waits: " + w.Reason
		if w.Never {
			text = w.Model + " never: " + w.Reason
		}
		if !w.Ready.IsZero() {
			text += fmt.Sprintf(" (%.0f s)", w.Ready.Sub(now).Seconds())
		}
		parts = append(parts, text)
	}
	if !p.Again.IsZero() {
		parts = append(parts, fmt.Sprintf("again in %.0f s", p.Again.Sub(now).Seconds()))
	}
	return strings.Join(parts, "; ")
}

func TestDecide(t *testing.T) {
	const unloads = "waits: another model is being unloaded (10 s)"
	old, soon := time.Hour, 5*time.Second
	paid := func(rate, price float64) func(*Model) {
		return func(m *Model) { m.Fallback, m.Rate, m.Price = true, rate, price }
	}
	for name, tc := range map[string]struct {
		gpus   []GPU
		models []Model
		want   string
	}{
		"nothing is wanted":             {[]GPU{card(0, 24)}, []Model{model("a", 9)}, ""},
		"a call loads":                  {[]GPU{card(0, 24)}, []Model{model("a", 9).waiting(1, 0)}, "load a on 0"},
		"many calls load it once":       {[]GPU{card(0, 24)}, []Model{model("a", 9).waiting(50, 0)}, "load a on 0"},
		"two fit":                       {[]GPU{card(0, 24)}, []Model{model("a", 9).waiting(1, 0), model("b", 9).waiting(1, 0)}, "load a on 0; load b on 0"},
		"a call that goes elsewhere":    {[]GPU{card(0, 24)}, []Model{model("a", 9).with(paid(0.1, 0.001))}, "load a on 0"},
		"it goes elsewhere for nothing": {[]GPU{card(0, 24)}, []Model{model("a", 9).with(paid(0.1, 0))}, ""},
		"no GPU is needed":              {nil, []Model{model("a", 9).waiting(1, 0).with(func(m *Model) { m.Placements = nil })}, "load a on no GPU"},
		"the driver does not report":    {[]GPU{{Name: "GPU 0", Unknown: true}}, []Model{model("a", 9).waiting(1, 0)}, "load a on 0"},

		"the driver does not answer":  {[]GPU{unread(false)}, []Model{model("a", 9).waiting(1, 0), model("b", 9).waiting(1, 0)}, "load a on 0; b waits: it hangs"},
		"it hangs, and one is loaded": {[]GPU{unread(false)}, []Model{model("b", 9).loaded(old), model("a", 30).waiting(1, Patience)}, "a waits: it hangs"},
		"the GPU is lost":             {[]GPU{unread(true)}, []Model{model("a", 9).waiting(1, 0)}, "a waits: it hangs"},
		"one of two GPUs is lost":     {[]GPU{unread(true), card(1, 20)}, []Model{model("a", 9).waiting(1, 0).with(func(m *Model) { m.Placements = append(m.Placements, on(1, 9)) })}, "load a on 1"},
		"the other GPU is full": {
			[]GPU{unread(true), card(1, 4)},
			[]Model{model("b", 20).with(func(m *Model) { m.Placements = []Placement{on(1, 20)} }).loaded(old), anywhere("a", 20).waiting(1, Patience)},
			"evict b for a; a " + unloads,
		},
		"it never fits, without calls": {[]GPU{card(0, 4)}, []Model{model("a", 30)}, "a never: it needs 30.0 GiB, and GPU 0 has 24.0 GiB"},

		"the tighter GPU":     {[]GPU{card(0, 20), card(1, 10)}, []Model{model("a", 9).waiting(1, 0).with(func(m *Model) { m.Placements = append(m.Placements, on(1, 9)) })}, "load a on 1"},
		"it is bound to one":  {[]GPU{card(0, 20), card(1, 10)}, []Model{model("a", 9).waiting(1, 0)}, "load a on 0"},
		"on both GPUs":        {[]GPU{card(0, 20), card(1, 20)}, []Model{model("a", 15).waiting(1, 0).with(func(m *Model) { m.Placements = []Placement{append(on(0, 15), on(1, 15)...)} })}, "load a on 01"},
		"one of both is full": {[]GPU{card(0, 20), card(1, 10)}, []Model{model("a", 15).waiting(1, 0).with(func(m *Model) { m.Placements = []Placement{append(on(0, 15), on(1, 15)...)} })}, "a waits: the VRAM is held by other processes or by pinned models"},

		"it is split where it fits on none": {[]GPU{card(0, 20), card(1, 20)}, []Model{anywhere("a", 30).waiting(1, 0)}, "load a on 01"},
		"it is not split where it fits":     {[]GPU{card(0, 20), card(1, 20)}, []Model{anywhere("a", 15).waiting(1, 0)}, "load a on 0"},
		"two take a GPU each":               {[]GPU{card(0, 24), card(1, 24)}, []Model{anywhere("a", 15).waiting(1, 1), anywhere("b", 15).waiting(1, 0)}, "load a on 0; load b on 1"},
		"split it never fits":               {[]GPU{card(0, 24), card(1, 24)}, []Model{anywhere("a", 50).waiting(1, 0)}, "a never: it needs 50.0 GiB, and the GPUs have 48.0 GiB"},
		"the cheaper GPU": {[]GPU{card(0, 4), card(1, 4)}, []Model{
			anywhere("b", 20).loaded(old).with(func(m *Model) { m.Rate = 0.1 }), anywhere("c", 20).on(1).loaded(old), anywhere("a", 20).waiting(1, Patience),
		}, "evict c for a; a " + unloads},
		"split, for which both are evicted": {[]GPU{card(0, 4), card(1, 4)}, []Model{
			anywhere("b", 20).loaded(old), anywhere("c", 20).on(1).loaded(old), anywhere("a", 30).waiting(1, Patience),
		}, "evict b for a; evict c for a; a " + unloads},
		"a split one is evicted": {[]GPU{card(0, 4), card(1, 4)}, []Model{
			anywhere("b", 40).on(2).loaded(old), anywhere("a", 20).waiting(1, Patience),
		}, "evict b for a; a " + unloads},
		"less than two is split": {[]GPU{card(0, 10), card(1, 12)}, []Model{anywhere("a", 14).waiting(1, 0)}, "load a on 01"},

		"it never fits":        {[]GPU{card(0, 24)}, []Model{model("a", 30).waiting(1, 0)}, "a never: it needs 30.0 GiB, and GPU 0 has 24.0 GiB"},
		"another process":      {[]GPU{card(0, 4)}, []Model{model("a", 9).waiting(1, 0)}, "a waits: the VRAM is held by other processes or by pinned models"},
		"a pinned model":       {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(func(m *Model) { m.Pinned = true }), model("a", 9).waiting(1, 0)}, "a waits: the VRAM is held by other processes or by pinned models"},
		"its last load failed": {[]GPU{card(0, 24)}, []Model{model("a", 9).waiting(1, 0).with(func(m *Model) { m.LoadFrom = now.Add(20 * time.Second) })}, "a waits: its last load failed (30 s); again in 20 s"},
		"it is being unloaded": {[]GPU{card(0, 0)}, []Model{model("a", 24).loaded(soon).waiting(1, 0).with(func(m *Model) { m.Phase = Unloading })}, ""},
		"another one unloads":  {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(soon).with(func(m *Model) { m.Phase = Unloading }), model("a", 9).waiting(1, 0)}, "a " + unloads},
		"its calls end first":  {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(soon).with(func(m *Model) { m.Phase, m.Leave = Unloading, 30*time.Second }), model("a", 9).waiting(1, 0)}, "a waits: another model is being unloaded (40 s)"},
		"one leaves another GPU": {[]GPU{card(0, 4), card(1, 0)}, []Model{
			model("b", 20).loaded(old).with(func(m *Model) { m.Leave = 2 * time.Second }), anywhere("c", 20).on(1).loaded(old).with(func(m *Model) { m.Phase, m.Leave = Unloading, 99*time.Second }),
			model("a", 9).waiting(1, Patience),
		}, "evict b for a; a waits: another model is being unloaded (12 s)"},
		"a young one will leave": {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(soon).with(func(m *Model) { m.Leave = 3 * time.Second }), model("a", 9).waiting(1, time.Second)}, "a waits: another model has just been loaded (28 s); again in 15 s"},
		"another one loads":      {[]GPU{card(0, 20)}, []Model{model("b", 15).loaded(soon).with(func(m *Model) { m.Phase, m.Unclaimed, m.Overdue = Loading, m.On, now.Add(time.Minute) }), model("a", 9).waiting(1, 0)}, "a waits: other models are loaded first; again in 60 s"},
		"its load never ends":    {[]GPU{card(0, 10)}, []Model{model("b", 15).loaded(old).with(func(m *Model) { m.Phase, m.Unclaimed, m.Overdue = Loading, on(0, 1), now }), model("a", 19).waiting(1, 0)}, "evict b for a; a " + unloads},
		"an operator drains it":  {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(func(m *Model) { m.Phase = Loading }), model("a", 9).waiting(1, 0)}, "a waits: the VRAM is held by other processes or by pinned models"},
		"it has loaded by half":  {[]GPU{card(0, 17)}, []Model{model("b", 15).loaded(soon).with(func(m *Model) { m.Phase, m.Unclaimed = Loading, on(0, 8) }), model("a", 9).waiting(1, 0)}, "load a on 0"},

		"an idle one is evicted":    {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old), model("a", 9).waiting(1, time.Second)}, "evict b for a; a " + unloads},
		"a young one stays":         {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(soon), model("a", 9).waiting(1, time.Second)}, "a waits: another model has just been loaded (25 s); again in 15 s"},
		"one that is used stays":    {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(func(m *Model) { m.Rate, m.InFlight = 1, 1 }), model("a", 9).waiting(1, time.Second)}, "a waits: the loaded models are in use (19 s); again in 9 s"},
		"not for ever":              {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(func(m *Model) { m.Rate, m.InFlight = 1, 1 }), model("a", 9).waiting(1, 11*time.Second)}, "evict b for a; a " + unloads},
		"its calls come first":      {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).waiting(9, time.Second), model("a", 9).waiting(1, 20*time.Second)}, "a waits: calls for the loaded models come first (30 s); again in 20 s"},
		"until patience ends":       {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).waiting(9, time.Second), model("a", 9).waiting(1, Patience)}, "evict b for a; a " + unloads},
		"the longest wait is first": {[]GPU{card(0, 10)}, []Model{model("a", 9).waiting(9, time.Second), model("b", 9).waiting(1, 2*time.Second)}, "load b on 0; a waits: other models are loaded first"},
		"the cheapest are evicted": {[]GPU{card(0, 0)}, []Model{
			model("b", 6).loaded(old).with(func(m *Model) { m.Rate = 0.001 }), model("c", 6).loaded(old).with(func(m *Model) { m.Rate = 0.01 }),
			model("d", 12).loaded(old).with(func(m *Model) { m.Rate = 0.1 }), model("a", 9).waiting(1, Patience),
		}, "evict b for a; evict c for a; a " + unloads},
		"one large instead of two": {[]GPU{card(0, 0)}, []Model{
			model("b", 6).loaded(old).with(func(m *Model) { m.Rate = 0.01 }), model("c", 6).loaded(old).with(func(m *Model) { m.Rate = 0.01 }),
			model("d", 12).loaded(old).with(func(m *Model) { m.Rate = 0.012 }), model("a", 9).waiting(1, Patience),
		}, "evict d for a; a " + unloads},
		"caches are worth their time": {[]GPU{card(0, 4)}, []Model{
			model("b", 10).loaded(old).with(func(m *Model) { m.Rate, m.Rebuild = 0.01, time.Minute }), model("c", 10).loaded(old).with(func(m *Model) { m.Rate = 0.02 }), model("a", 9).waiting(1, Patience),
		}, "evict c for a; a " + unloads},

		"paid calls are worth a swap": {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(paid(0.1, 0.001)), model("a", 9).with(paid(0.5, 0.01))}, "evict b for a"},
		"calls that pay less are not": {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).with(paid(0.1, 0.001)), model("a", 9).with(paid(0.1, 0.001))}, ""},
		"the dearer calls are first":  {[]GPU{card(0, 10)}, []Model{model("a", 9).with(paid(0.1, 0.001)), model("b", 9).with(paid(0.1, 0.002))}, "load b on 0"},
		"nor if others then wait":     {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).waiting(1, 0), model("a", 9).with(paid(9, 9))}, ""},

		"its eviction is not needed": {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).draining(1), model("a", 9)}, "keep b"},
		"other VRAM is free now":     {[]GPU{card(0, 10)}, []Model{model("b", 14).loaded(old).draining(1), model("a", 9).waiting(1, 0)}, "load a on 0; keep b"},
		"it is still needed":         {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).draining(1), model("a", 9).waiting(1, 0)}, "a " + unloads},
		"one of two is enough":       {[]GPU{card(0, 4)}, []Model{model("b", 10).loaded(old).draining(1), model("c", 10).loaded(old).draining(1), model("a", 9).waiting(1, 0)}, "keep b; a " + unloads},
		"both are needed":            {[]GPU{card(0, 4)}, []Model{model("b", 10).loaded(old).draining(1), model("c", 10).loaded(old).draining(1), model("a", 20).waiting(1, 0)}, "a " + unloads},
		"it has no calls left":       {[]GPU{card(0, 4)}, []Model{model("b", 20).loaded(old).draining(0)}, ""},
		"a start takes what is free": {[]GPU{card(0, 2)}, []Model{model("b", 14).loaded(old).draining(1), model("a", 9).loaded(soon).with(func(m *Model) { m.Phase, m.Unclaimed = Loading, m.On })}, ""},

		"idle for long enough": {[]GPU{card(0, 4)}, []Model{model("a", 20).loaded(old).with(func(m *Model) { m.IdleUnload = time.Minute })}, "evict a"},
		"not yet":              {[]GPU{card(0, 4)}, []Model{model("a", 20).loaded(soon).with(func(m *Model) { m.IdleUnload = time.Minute })}, "again in 55 s"},
		"it is pinned":         {[]GPU{card(0, 4)}, []Model{model("a", 20).loaded(old).with(func(m *Model) { m.IdleUnload, m.Pinned = time.Minute, true })}, ""},
		"it answers a call":    {[]GPU{card(0, 4)}, []Model{model("a", 20).loaded(old).with(func(m *Model) { m.IdleUnload, m.InFlight = time.Minute, 1 })}, ""},
		"idle is enough room":  {[]GPU{card(0, 4)}, []Model{model("a", 20).loaded(old).with(func(m *Model) { m.IdleUnload = time.Minute }), model("b", 9).waiting(1, 0)}, "evict a; b " + unloads},
		"promised VRAM is not given away": {[]GPU{card(0, 4)}, []Model{
			model("b", 20).loaded(old), model("a", 24).waiting(1, 2*time.Second), model("c", 3).waiting(1, time.Second),
		}, "evict b for a; a " + unloads + "; c waits: other models are loaded first"},
		"what is left of it is": {[]GPU{card(0, 4)}, []Model{
			model("b", 20).loaded(soon), model("a", 9).waiting(1, 2*time.Second), model("c", 3).waiting(1, time.Second),
		}, "load c on 0; a waits: another model has just been loaded (25 s); again in 15 s"},
		"no more of it is": {[]GPU{card(0, 4)}, []Model{
			model("b", 20).loaded(soon), model("a", 22).waiting(1, 2*time.Second), model("c", 3).waiting(1, time.Second),
		}, "a waits: another model has just been loaded (25 s); c waits: other models are loaded first; again in 15 s"},
		"it will fit beside it": {[]GPU{card(0, 0)}, []Model{
			model("b", 24).loaded(soon), model("a", 9).waiting(1, 2*time.Second), model("c", 3).waiting(1, time.Second),
		}, "a waits: another model has just been loaded (25 s); c waits: another model is being unloaded (10 s); again in 15 s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Now: now, GPUs: tc.gpus, Models: tc.models}
			if got := describe(Decide(s)); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestInvariants plans random states: no more VRAM is promised than there will be, nothing
// that must stay is evicted, and planning changes nothing.
func TestInvariants(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	loads, evictions, kept := 0, 0, 0
	for range 50_000 {
		s := randomState(r)
		plan := Decide(s)
		if again := Decide(s); !reflect.DeepEqual(plan, again) {
			t.Fatalf("%+v\nplanned again: %+v", plan, again)
		}
		acted := map[string]bool{}
		for _, name := range plan.Keep {
			if m := find(s, name); m.Phase != Unloading || !m.Draining || m.InFlight+m.Waiting == 0 {
				t.Fatalf("%+v is kept: %+v", m, plan)
			}
			kept++
		}
		free := make([]int64, len(s.GPUs))
		for i, g := range s.GPUs {
			free[i] = int64(g.Free)
		}
		for _, m := range s.Models {
			for _, share := range m.Unclaimed {
				free[share.GPU] -= int64(share.Bytes)
			}
		}
		short := make([]bool, len(free)) // before anything is planned: the sample is older than a start
		for i := range free {
			short[i] = free[i] < 0
		}
		for _, l := range plan.Load {
			m := find(s, l.Model)
			if m.Phase != Unloaded || acted[l.Model] || now.Before(m.LoadFrom) {
				t.Fatalf("%+v is loaded: %+v", m, plan)
			}
			acted[l.Model] = true
			loads++
			for _, share := range l.On {
				if free[share.GPU] -= int64(share.Bytes); free[share.GPU] < 0 && !short[share.GPU] {
					t.Fatalf("GPU %d is promised twice: %+v\n%+v", share.GPU, plan, s)
				}
			}
		}
		for _, e := range plan.Evict {
			m := find(s, e.Model)
			young := now.Before(m.protectedUntil())
			if m.Phase != Loaded || m.Pinned || acted[e.Model] || e.For != "" && young || e.For == "" && m.Waiting+m.InFlight > 0 {
				t.Fatalf("%+v is evicted: %+v", m, plan)
			}
			acted[e.Model] = true
			evictions++
		}
		if !plan.Again.IsZero() && !plan.Again.After(now) {
			t.Fatalf("it plans again at %s, which has passed", plan.Again)
		}
	}
	if loads < 1000 || evictions < 1000 || kept < 1000 {
		t.Errorf("only %d loads, %d evictions and %d withdrawn evictions were checked", loads, evictions, kept)
	}
}

func find(s State, name string) *Model {
	for i := range s.Models {
		if s.Models[i].Name == name {
			return &s.Models[i]
		}
	}
	return nil
}

func randomState(r *rand.Rand) State {
	s := State{Now: now}
	for i := range 1 + r.IntN(2) {
		s.GPUs = append(s.GPUs, card(i, 24))
	}
	free := make([]float64, len(s.GPUs))
	for i := range free {
		free[i] = 24 - float64(r.IntN(3))
	}
	for i := range 1 + r.IntN(7) {
		size := 1 + float64(r.IntN(14))
		m := model(fmt.Sprintf("m%d", i), size)
		m.Placements = nil
		for g := range s.GPUs {
			m.Placements = append(m.Placements, on(g, size))
		}
		if len(s.GPUs) > 1 {
			m.Placements = append(m.Placements, append(on(0, size/2), on(1, size/2)...))
		}
		m.Pinned, m.Fallback = r.IntN(8) == 0, r.IntN(2) == 0
		m.Rate, m.Price = r.Float64(), r.Float64()/100
		m.Rebuild = time.Duration(r.IntN(60)) * time.Second
		if r.IntN(3) == 0 {
			m.IdleUnload = time.Minute
		}
		if r.IntN(10) == 0 {
			m.LoadFrom = now.Add(time.Second)
		}
		if r.IntN(2) == 0 {
			m = m.waiting(1+r.IntN(5), time.Duration(r.IntN(90))*time.Second)
		}
		where := m.Placements[r.IntN(len(m.Placements))]
		fits := true
		for _, share := range where {
			fits = fits && free[share.GPU] >= float64(share.Bytes)/gib
		}
		if r.IntN(2) == 0 && fits {
			m.Phase, m.Since, m.LastUsed = Phase(1+r.IntN(3)), ago(time.Duration(r.IntN(120))*time.Second), ago(time.Duration(r.IntN(120))*time.Second)
			m.On, m.InFlight = where, r.IntN(3)
			m.Draining = m.Phase == Unloading && r.IntN(2) == 0
			part := r.Float64()
			for _, share := range where {
				size := float64(share.Bytes) / gib
				free[share.GPU] -= size
				if m.Phase == Loading { // the driver still reports a part of it as free
					m.Unclaimed = append(m.Unclaimed, Share{share.GPU, uint64(float64(share.Bytes) * part)})
					free[share.GPU] += size * part
				}
			}
		}
		s.Models = append(s.Models, m)
	}
	for g := range s.GPUs {
		s.GPUs[g].Free = uint64(free[g] * gib)
	}
	return s
}

// TestEveryCallIsServed: of each trace, whether all calls wait or go elsewhere.
func TestEveryCallIsServed(t *testing.T) {
	for _, trace := range traces() {
		for _, fallback := range []bool{false, true} {
			got := replay(trace, planned{}, fallback)
			if len(got.waits) != len(trace.arrivals) {
				t.Errorf("%s, fallback %t: %d of %d calls were answered", trace.name, fallback, len(got.waits), len(trace.arrivals))
			}
			if longest := got.wait(1); longest > 3*starvedAfter.Seconds() {
				t.Errorf("%s, fallback %t: a call waited %.0f s", trace.name, fallback, longest)
			}
		}
	}
}

func TestRate(t *testing.T) {
	var r Rate
	for i := range 600 { // one a second
		r.Add(now.Add(time.Duration(i)*time.Second), 1)
	}
	end := now.Add(600 * time.Second)
	if got := r.At(end); got < 0.95 || got > 1.05 {
		t.Errorf("%f calls a second, want about 1", got)
	}
	if got := r.At(end.Add(20 * time.Minute)); got > 0.001 {
		t.Errorf("%f calls a second after 20 minutes without one", got)
	}
	if got := r.At(now); got != r.At(now) || got > 1.1 {
		t.Errorf("%f calls a second in the past", got)
	}
	if unused := new(Rate); unused.At(end) != 0 {
		t.Error("a rate without calls is not 0")
	}
}
