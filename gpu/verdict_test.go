package gpu

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	ours, theirs = 100, 200 // PIDs
	gib          = 1 << 30
	first        = "GPU-aaaa0000-0000-0000-0000-000000000000"
	second       = "GPU-bbbb0000-0000-0000-0000-000000000000"
)

// moment is a sample, and the server at its time.
type moment struct {
	Sample
	Server
}

// healthy is a server that answers, on the first of two GPUs that it shares with
// a stranger.
func healthy() moment {
	card := func(index int, uuid string) GPU {
		return GPU{
			Index: index, UUID: uuid, Name: "NVIDIA GeForce RTX 4090",
			MemoryTotal: new(uint64(24 * gib)), MemoryUsed: new(uint64(10 * gib)), MemoryFree: new(uint64(14 * gib)),
			Utilization: new(3), MemoryUtilization: new(1), Temperature: new(41),
			Power: new(22.5), PowerLimit: new(450.0), Slowdown: new(Slowdown(0)),
			ECCUncorrected: new(uint64(2)), PCIeReplays: new(uint64(0)),
			Processes:      []Process{{ours, "llama-server", new(uint64(9 * gib))}, {theirs, "python", new(uint64(gib))}},
			ProcessesKnown: true,
		}
	}
	return moment{
		Sample{GPUs: []GPU{card(0, first), card(1, second)}},
		Server{PID: ours, PIDs: []int{ours}, GPUs: []string{first}, Loaded: true, HasOpen: true, Weights: 8 * gib, Asked: 8192, Given: 8192},
	}
}

// others sets what the stranger holds of a GPU.
func (m *moment) others(gpu int, holds uint64) {
	g := &m.Sample.GPUs[gpu]
	*g.Processes[1].Memory = holds
	*g.MemoryUsed = *g.Processes[0].Memory + holds
	*g.MemoryFree = *g.MemoryTotal - *g.MemoryUsed
}

func (m *moment) lose(gpu int) {
	m.Sample.GPUs[gpu] = m.Sample.GPUs[gpu].blank()
	m.Sample.GPUs[gpu].Lost = true
}

// silence takes all figures away.
func (m *moment) silence() {
	for i, g := range m.Sample.GPUs {
		m.Sample.GPUs[i] = g.blank()
	}
}

func problem(m *moment) {
	m.silence()
	m.Problem = "the NVIDIA driver has not answered for 5s"
}

// condition is how a reason comes about on a GPU, and when nobody can tell.
type condition struct {
	bad     func(m *moment, gpu int)
	unknown map[string]func(*moment)
	words   []string // what a person has to be told
	own     bool     // it is of the server, and of no GPU
}

var conditions = map[Reason]condition{
	VRAMPressure: {
		bad: func(m *moment, gpu int) { m.others(gpu, 15*gib-100<<20) },
		unknown: map[string]func(*moment){
			"free":      func(m *moment) { m.others(0, 15*gib); m.Sample.GPUs[0].MemoryFree = nil },
			"used":      func(m *moment) { m.Sample.GPUs[0].MemoryUsed = nil },
			"processes": func(m *moment) { m.Sample.GPUs[0].Processes, m.Sample.GPUs[0].ProcessesKnown = nil, false },
			"ours":      func(m *moment) { m.others(0, 15*gib); m.Sample.GPUs[0].Processes[0].Memory = nil },
			"container": func(m *moment) { m.others(0, 15*gib); m.Sample.GPUs[0].Processes[0].PID = 4711 },
			"lost":      func(m *moment) { m.lose(0) },
			"silence":   (*moment).silence,
			"problem":   problem,
		},
		words: []string{"GPU 0", "100 MiB of VRAM free", "13.9 GiB more", "pid 200 python 14.9 GiB"},
	},
	BusyElsewhere: {
		bad: func(m *moment, gpu int) { *m.Sample.GPUs[gpu].Utilization = 97 },
		unknown: map[string]func(*moment){
			"utilization": func(m *moment) { m.Sample.GPUs[0].Utilization = nil },
			"lost":        func(m *moment) { m.lose(0) },
			"silence":     (*moment).silence,
			"problem":     problem,
		},
		words: []string{"GPU 0", "97 %", "pid 200 python 1.0 GiB"},
	},
	Thermal: {
		bad: func(m *moment, gpu int) {
			m.Sample.GPUs[gpu].Slowdown, m.Sample.GPUs[gpu].Temperature = new(HardwareThermal), new(96)
		},
		unknown: map[string]func(*moment){
			"slowdown": func(m *moment) { m.Sample.GPUs[0].Slowdown, m.Sample.GPUs[0].Temperature = nil, new(96) },
			"lost":     func(m *moment) { m.lose(0) },
			"silence":  (*moment).silence,
			"problem":  problem,
		},
		words: []string{"GPU 0", "because of its heat", "96 C"},
	},
	ECC: {
		bad: func(m *moment, gpu int) { *m.Sample.GPUs[gpu].ECCUncorrected = 5 },
		unknown: map[string]func(*moment){
			"errors":  func(m *moment) { m.Sample.GPUs[0].ECCUncorrected = nil },
			"lost":    func(m *moment) { m.lose(0) },
			"silence": (*moment).silence,
			"problem": problem,
		},
		words: []string{"GPU 0", "3 memory errors"},
	},
	Xid: {
		bad:     func(m *moment, gpu int) { m.Sample.GPUs[gpu].Xids = []uint64{13, 74} },
		unknown: map[string]func(*moment){"problem": problem},
		words:   []string{"GPU 0", "Xid 74", "NVLink"},
	},
	Lost: {
		bad: func(m *moment, gpu int) { m.lose(gpu) },
		unknown: map[string]func(*moment){
			"problem":          problem,
			"lost and problem": func(m *moment) { m.lose(0); problem(m) },
		},
		words: []string{"GPU 0", "NVIDIA GeForce RTX 4090", "lost"},
	},
	OnCPU: {
		bad: func(m *moment, _ int) { *m.Sample.GPUs[0].Processes[0].Memory = 300 << 20 },
		unknown: map[string]func(*moment){
			"processes": func(m *moment) { m.Sample.GPUs[0].Processes, m.Sample.GPUs[0].ProcessesKnown = nil, false },
			"ours":      func(m *moment) { m.Sample.GPUs[0].Processes[0].Memory = nil },
			"container": func(m *moment) { m.Sample.GPUs[0].Processes[0].PID = 4711 },
			"weights":   func(m *moment) { m.Weights = 0 },
			"loading":   func(m *moment) { m.Loaded = false },
			"lost":      func(m *moment) { m.lose(0) },
			"silence":   (*moment).silence,
			"problem":   problem,
		},
		words: []string{"300 MiB of VRAM", "8.0 GiB", "CPU"},
		own:   true,
	},
	ContextReduced: {
		bad: func(m *moment, _ int) { m.Given = 4096 },
		unknown: map[string]func(*moment){
			"given":   func(m *moment) { m.Given = 0 },
			"loading": func(m *moment) { m.Loaded, m.Given = false, 4096 },
		},
		words: []string{"4096", "8192"},
		own:   true,
	},
}

// judge is a policy that is asked once a second.
type judge struct {
	Policy
	History
	now time.Time
}

func newJudge(p Policy) *judge { return &judge{Policy: p, now: time.Unix(1e9, 0)} }

// sees takes a moment into account, a second after the one before it.
func (j *judge) sees(m moment) Verdict {
	m.At = j.now
	j.now = j.now.Add(time.Second)
	var v Verdict
	j.History, v = j.Next(j.History, &m.Sample, m.Server)
	return v
}

func holds(v Verdict, r Reason) bool {
	return slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Reason == r })
}

// TestHysteresis plays each reason through: b is a bad sample, g a good one, u
// one that does not tell. Of the verdict # says that the reason holds, and . not.
func TestHysteresis(t *testing.T) {
	repeat := strings.Repeat
	cases := map[string]struct{ samples, want string }{
		"in after three":            {"bbb", "..#"},
		"and no sooner":             {"bbg", "..."},
		"stays while bad":           {"bbbbbb", "..####"},
		"bad ones in a row":         {"bbgbbgbgbbb", "..........#"},
		"out after ten":             {"bbb" + repeat("g", 12), "..#" + repeat("#", 9) + "..."},
		"good ones in a row":        {"bbb" + repeat("g", 9) + "b" + repeat("g", 10), "..#" + repeat("#", 9) + "#" + repeat("#", 9) + "."},
		"in again after three":      {"bbb" + repeat("g", 10) + "bbb", "..#" + repeat("#", 9) + "." + "..#"},
		"unknown is not bad":        {repeat("u", 20), repeat(".", 20)},
		"unknown is not good":       {"bbb" + repeat("u", 9) + repeat("gu", 5), "..#" + repeat("#", 9) + repeat("##", 5)},
		"unknown for too long":      {"bbb" + repeat("u", 20) + "bbb", "..#" + repeat("#", 9) + repeat(".", 11) + "..#"},
		"unknown on the way in":     {"bubuub", ".....#"},
		"unknown on the way out":    {"bbb" + repeat("gu", 9) + "ug", "..#" + repeat("##", 9) + "#."},
		"unknown, where good ended": {"bbub" + repeat("g", 9) + "u" + "g", "...#" + repeat("#", 9) + "#."},
		"unknown, where bad ended":  {"bbugbbu", "......."},
	}
	policy := DefaultPolicy()
	policy.BusyFor = 0 // TestBusyFor
	for reason, c := range conditions {
		if reason.sudden() {
			continue // TestXid
		}
		for what, unknown := range c.unknown {
			for name, script := range cases {
				t.Run(fmt.Sprintf("%s/%s/%s", reason, what, name), func(t *testing.T) {
					if reason == Lost && name == "unknown for too long" {
						script.want = "..#" + repeat("#", 23) // until it is found
					}
					j := newJudge(policy)
					j.sees(healthy())
					var got strings.Builder
					for _, letter := range script.samples {
						m := healthy()
						switch letter {
						case 'b':
							c.bad(&m, 0)
						case 'u':
							unknown(&m)
						}
						v := j.sees(m)
						if holds(v, reason) {
							got.WriteByte('#')
						} else {
							got.WriteByte('.')
						}
						for _, f := range v.Findings {
							if f.Reason != reason && !(f.Reason == Lost && what == "lost") {
								t.Errorf("it also finds %s: %s", f.Reason, f.Words)
							}
						}
					}
					if got.String() != script.want {
						t.Errorf("samples %s\n   give %s\n   want %s", script.samples, &got, script.want)
					}
				})
			}
		}
	}
}

// TestConditions is that of two GPUs the right one is named, with its figures,
// and that a server is held to its own alone.
func TestConditions(t *testing.T) {
	policy := DefaultPolicy()
	policy.BusyFor = 0
	for reason, c := range conditions {
		play := func(gpu int, of ...string) Verdict {
			j := newJudge(policy)
			var v Verdict
			for i := range 4 {
				m := healthy()
				m.Server.GPUs = of
				if i > 0 {
					c.bad(&m, gpu)
				}
				v = j.sees(m)
			}
			return v
		}
		t.Run(string(reason), func(t *testing.T) {
			v := play(0, first)
			if len(v.Findings) != 1 || v.Findings[0].Reason != reason {
				t.Fatalf("findings %+v, want %s alone", v.Findings, reason)
			}
			uuid := first
			if c.own {
				uuid = ""
			}
			if v.Findings[0].UUID != uuid {
				t.Errorf("GPU %q, want %q", v.Findings[0].UUID, uuid)
			}
			for _, want := range c.words {
				if !strings.Contains(v.Findings[0].Words, want) {
					t.Errorf("words %q, want %q in them", v.Findings[0].Words, want)
				}
			}
			if got, want := v.Words(), string(reason)+": "+v.Findings[0].Words; got != want {
				t.Errorf("in one line %q, want %q", got, want)
			}
		})
		if c.own {
			continue
		}
		t.Run(string(reason)+" of one of two", func(t *testing.T) {
			v := play(1, first, second)
			if len(v.Findings) != 1 || v.Findings[0].Reason != reason || v.Findings[0].UUID != second {
				t.Errorf("findings %+v, want %s of the second GPU", v.Findings, reason)
			}
			if want := strings.Replace(c.words[0], "0", "1", 1); !strings.Contains(v.Words(), want) {
				t.Errorf("words %q, want %q in them", v.Words(), want)
			}
		})
		t.Run(string(reason)+" of another's", func(t *testing.T) {
			if v := play(1, first); len(v.Findings) > 0 || v.Ends != nil {
				t.Errorf("findings %+v, ends %+v, want none: it is not this server's GPU", v.Findings, v.Ends)
			}
		})
	}
}

func TestXid(t *testing.T) {
	cases := map[string]struct {
		xids []uint64
		want string // part of the words; "" = nothing is found
	}{
		"none":                {nil, ""},
		"graphics engine":     {[]uint64{13}, ""},
		"page fault":          {[]uint64{31}, ""},
		"stopped":             {[]uint64{43}, ""},
		"cleanup":             {[]uint64{45}, ""},
		"video":               {[]uint64{68}, ""},
		"context switch":      {[]uint64{109}, ""},
		"all of a program's":  {[]uint64{13, 31, 43, 45, 68, 109}, ""},
		"off the bus":         {[]uint64{79}, "Xid 79 (it has fallen off the bus)"},
		"memory":              {[]uint64{48}, "Xid 48 (a memory error"},
		"no meaning known":    {[]uint64{999}, "Xid 999: look"},
		"behind a program's":  {[]uint64{13, 31, 119}, "Xid 119"},
		"two, the graver one": {[]uint64{63, 79}, "Xid 79"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJudge(DefaultPolicy())
			m := healthy()
			m.Sample.GPUs[0].Xids = c.xids
			v := j.sees(m)
			if c.want == "" {
				if len(v.Findings) > 0 || v.Ends != nil {
					t.Errorf("findings %+v, ends %+v, want none", v.Findings, v.Ends)
				}
				return
			}
			if !holds(v, Xid) || !strings.Contains(v.Words(), c.want) {
				t.Fatalf("findings %+v, want xid at once, with %q", v.Findings, c.want)
			}
			for i := 1; i <= 10; i++ {
				v := j.sees(healthy())
				if want := i < 10; holds(v, Xid) != want {
					t.Errorf("after %d good samples it holds: %v, want %v", i, !want, want)
				}
			}
		})
	}
}

// TestEnds is when a server's process has to go. A letter is a sample: b is bad,
// g is good, s is bad with no process running, n is bad with another process.
func TestEnds(t *testing.T) {
	cases := map[string]struct {
		samples string
		want    map[Reason]string // # = it ends; others than lost and xid never
	}{
		"told once":                   {"bbbbbbbb", map[Reason]string{Lost: "..#.....", Xid: "########"}},
		"each Xid is another one":     {"bgbggb", map[Reason]string{Lost: "......", Xid: "#.#..#"}},
		"never without a process":     {"ssssssss", map[Reason]string{Lost: "........", Xid: "........"}},
		"not for what was there then": {"bbbsn", map[Reason]string{Lost: "..#..", Xid: "###.#"}},
		"again, after it was well":    {"bbb" + strings.Repeat("g", 10) + "bbb", map[Reason]string{Lost: "..#" + strings.Repeat(".", 10) + "..#", Xid: "###" + strings.Repeat(".", 10) + "###"}},
	}
	policy := DefaultPolicy()
	policy.BusyFor = 0
	for reason, c := range conditions {
		for name, script := range cases {
			t.Run(string(reason)+"/"+name, func(t *testing.T) {
				j := newJudge(policy)
				j.sees(healthy())
				var got strings.Builder
				for _, letter := range script.samples {
					m := healthy()
					if letter != 'g' {
						c.bad(&m, 0)
					}
					switch letter {
					case 's':
						m.PID, m.PIDs, m.Loaded, m.HasOpen = 0, nil, false, false
					case 'n':
						m.PID, m.PIDs = ours+1, []int{ours + 1}
					}
					v := j.sees(m)
					if v.Ends == nil {
						got.WriteByte('.')
						continue
					}
					got.WriteByte('#')
					if v.Ends.Reason != reason || v.Ends.UUID != first || v.Ends.Words == "" {
						t.Errorf("it ends for %+v", *v.Ends)
					}
				}
				want := script.want[reason]
				if want == "" {
					want = strings.Repeat(".", len(script.samples))
				}
				if got.String() != want {
					t.Errorf("samples %s\n    ends %s\n    want %s", script.samples, &got, want)
				}
			})
		}
	}
}

// TestEndsForTheGravest: whatever else is wrong at the same moment, and however
// Go orders its maps.
func TestEndsForTheGravest(t *testing.T) {
	for range 50 {
		j := newJudge(DefaultPolicy())
		for i := range 3 {
			m := healthy()
			m.Server.GPUs = []string{first, second}
			m.lose(1)
			if i == 2 {
				m.Sample.GPUs[0].Xids = []uint64{74}
			}
			v := j.sees(m)
			if i < 2 {
				continue
			}
			if v.Ends == nil || v.Ends.Reason != Lost || v.Ends.UUID != second {
				t.Fatalf("it ends for %+v, want the lost GPU", v.Ends)
			}
			if len(v.Findings) != 2 || v.Findings[0].Reason != Lost || v.Findings[1].Reason != Xid {
				t.Fatalf("findings %+v, want lost, then xid", v.Findings)
			}
		}
	}
}

// TestBaselines is what figures are compared with: how things were when this
// process was started, or had loaded its model.
func TestBaselines(t *testing.T) {
	type step struct {
		change func(*moment)
		want   Reason // that holds after it; "" = none
	}
	times := func(n int, s step) []step { return slices.Repeat([]step{s}, n) }
	ecc := func(errors uint64) func(*moment) {
		return func(m *moment) { *m.Sample.GPUs[0].ECCUncorrected = errors }
	}
	crowd := func(m *moment) { m.others(0, 15*gib-100<<20) }
	another := func(m *moment) {
		m.PID, m.PIDs = ours+1, []int{ours + 1}
		m.Sample.GPUs[0].Processes[0].PID = ours + 1
	}
	with := func(changes ...func(*moment)) func(*moment) {
		return func(m *moment) {
			for _, change := range changes {
				change(m)
			}
		}
	}
	loading := func(m *moment) { m.Loaded = false }
	nothing := func(*moment) {}
	cases := map[string][]step{
		"errors before its start": times(20, step{ecc(7), ""}),
		"errors of the old process are not the new one's": slices.Concat(
			times(1, step{nothing, ""}), times(2, step{ecc(5), ""}), times(3, step{ecc(5), ECC}),
			times(9, step{with(ecc(5), another), ECC}), times(5, step{with(ecc(5), another), ""}),
			times(2, step{with(ecc(6), another), ""}), times(1, step{with(ecc(6), another), ECC}),
		),
		"errors that are first told later": slices.Concat(
			times(3, step{(*moment).silence, ""}), times(20, step{ecc(7), ""}),
		),
		"a process that finds a crowd": times(20, step{crowd, ""}),
		"a crowd that came while it loaded": slices.Concat(
			times(3, step{loading, ""}), times(5, step{with(crowd, loading), ""}), times(2, step{crowd, ""}), times(9, step{crowd, VRAMPressure}),
		),
		"a crowd that came after it had loaded": slices.Concat(
			times(3, step{loading, ""}), times(5, step{nothing, ""}), times(2, step{crowd, ""}), times(9, step{crowd, VRAMPressure}),
		),
		"a crowd that made room for it and comes back": slices.Concat(
			times(5, step{crowd, ""}), times(1, step{nothing, ""}), times(2, step{crowd, ""}), times(1, step{crowd, VRAMPressure}),
		),
		"another process starts in the crowd": slices.Concat(
			times(1, step{nothing, ""}), times(2, step{crowd, ""}), times(3, step{crowd, VRAMPressure}),
			times(5, step{with(crowd, another, loading), VRAMPressure}),
			times(9, step{with(crowd, another), VRAMPressure}), times(3, step{with(crowd, another), ""}),
		),
		"its own growth": slices.Concat(times(1, step{nothing, ""}), times(20, step{func(m *moment) {
			*m.Sample.GPUs[0].Processes[0].Memory += 14*gib - 50<<20
			m.others(0, gib)
		}, ""})),
		"others that grow, with room left": slices.Concat(times(1, step{nothing, ""}), times(20, step{func(m *moment) {
			m.others(0, 15*gib-256<<20)
		}, ""})),
		"others that grow, with a byte too little": slices.Concat(times(1, step{nothing, ""}), times(2, step{func(m *moment) {
			m.others(0, 15*gib-256<<20+1)
		}, ""}), times(3, step{func(m *moment) {
			m.others(0, 15*gib-256<<20+1)
		}, VRAMPressure})),
		"another process is on the GPU": slices.Concat(
			times(2, step{func(m *moment) { conditions[OnCPU].bad(m, 0) }, ""}),
			times(3, step{func(m *moment) { conditions[OnCPU].bad(m, 0) }, OnCPU}),
			times(1, step{another, ""}),
		),
		"another process has its context": slices.Concat(
			times(2, step{func(m *moment) { m.Given = 512 }, ""}),
			times(3, step{func(m *moment) { m.Given = 512 }, ContextReduced}),
			times(1, step{another, ""}),
		),
		"two runs of two processes are no three": slices.Concat(
			times(2, step{func(m *moment) { m.Given = 512 }, ""}),
			times(2, step{func(m *moment) { m.Given = 512; another(m) }, ""}),
			times(1, step{func(m *moment) { m.Given = 512; another(m) }, ContextReduced}),
		),
		"another GPU": slices.Concat(
			times(2, step{func(m *moment) { m.lose(0) }, ""}), times(1, step{func(m *moment) { m.lose(0) }, Lost}),
			times(1, step{func(m *moment) { another(m); m.lose(0); m.Server.GPUs = []string{second} }, ""}),
		),
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJudge(DefaultPolicy())
			for i, s := range steps {
				m := healthy()
				s.change(&m)
				v := j.sees(m)
				var got Reason
				if len(v.Findings) > 0 {
					got = v.Findings[0].Reason
				}
				if len(v.Findings) > 1 || got != s.want {
					t.Fatalf("sample %d: %q, want %q", i+1, v.Words(), s.want)
				}
			}
		})
	}
}

// TestOnCPU is when a process that holds too little is held to compute on the
// CPU.
func TestOnCPU(t *testing.T) {
	unlisted := func(m *moment) { m.Sample.GPUs[0].Processes = m.Sample.GPUs[0].Processes[1:] }
	cases := map[string]struct {
		change func(*moment)
		want   string // part of the words; "" = it is not held so
	}{
		"all of it":                 {func(m *moment) { *m.Sample.GPUs[0].Processes[0].Memory = 8 * gib }, ""},
		"a byte too little":         {func(m *moment) { *m.Sample.GPUs[0].Processes[0].Memory = 8*gib - 1 }, "8.0 GiB"},
		"not listed, no GPU open":   {func(m *moment) { unlisted(m); m.HasOpen = false }, "0 MiB of VRAM"},
		"not listed, a GPU open":    {unlisted, ""},
		"not listed, a small model": {func(m *moment) { unlisted(m); m.HasOpen, m.Weights = false, 255<<20 }, ""},
		"nothing has to be there":   {func(m *moment) { unlisted(m); m.HasOpen, m.Weights = false, 0 }, ""},
		"no GPU":                    {func(m *moment) { unlisted(m); m.HasOpen, m.Server.GPUs = false, nil }, ""},
		"half here, half there":     {func(m *moment) { m.Server.GPUs = []string{first, second}; m.Weights = 18 * gib }, ""},
		"too little on both":        {func(m *moment) { m.Server.GPUs = []string{first, second}; m.Weights = 18*gib + 1 }, "18.0 GiB"},
		"a GPU that tells nothing":  {func(m *moment) { m.Server.GPUs = []string{first, second}; m.Weights = 18*gib + 1; m.lose(1) }, ""},
		"a GPU that nobody knows":   {func(m *moment) { m.Server.GPUs = []string{first, "MIG-1"}; m.Weights = 18 * gib }, ""},
		"below a wrapper":           {func(m *moment) { m.PID, m.PIDs = 90, []int{90, ours} }, ""},
		"two of them hold it":       {func(m *moment) { m.PIDs = []int{ours, theirs}; m.Weights = 10 * gib }, ""},
		"one of two without figures": {func(m *moment) {
			m.PIDs = []int{ours, theirs}
			m.Weights = 10 * gib
			m.Sample.GPUs[0].Processes[1].Memory = nil
		}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJudge(DefaultPolicy())
			var v Verdict
			for range 4 {
				m := healthy()
				c.change(&m)
				v = j.sees(m)
			}
			if got := holds(v, OnCPU); got != (c.want != "") || !strings.Contains(v.Words(), c.want) {
				t.Errorf("words %q, want %q in them", v.Words(), c.want)
			}
		})
	}
}

func TestThermal(t *testing.T) {
	cases := map[string]struct {
		slowdown Slowdown
		want     string
	}{
		"none":                {0, ""},
		"idle":                {0x01, ""},
		"clocks were set":     {0x02, ""},
		"power limit":         {0x04, ""},
		"sync boost":          {0x10, ""},
		"display":             {0x100, ""},
		"hardware":            {0x08, "to protect itself at 41 C"},
		"hardware, heat":      {0x08 | 0x40, "because of its heat"},
		"software, heat":      {0x20, "because of its heat"},
		"power brake":         {0x08 | 0x80, "because its power supply asked for it"},
		"heat and much else":  {0x20 | 0x04 | 0x100, "because of its heat"},
		"nothing of our kind": {0x01 | 0x02 | 0x04 | 0x10 | 0x100, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJudge(DefaultPolicy())
			var v Verdict
			for range 3 {
				m := healthy()
				m.Sample.GPUs[0].Slowdown = &c.slowdown
				v = j.sees(m)
			}
			if got := holds(v, Thermal); got != (c.want != "") || !strings.Contains(v.Words(), c.want) {
				t.Errorf("words %q, want %q in them", v.Words(), c.want)
			}
		})
	}
}

// TestBusyFor plays what others' work takes to be held against a GPU, under the
// default of ten seconds: b is busy, u unknown, i idle, c busy with a call of ours,
// l busy while the server loads, p a problem of the driver's.
func TestBusyFor(t *testing.T) {
	repeat := strings.Repeat
	cases := map[string]struct{ samples, want string }{
		"ten seconds":                     {repeat("b", 12), repeat(".", 10) + "##"},
		"nine, twice":                     {repeat("b", 10) + "i" + repeat("b", 10), repeat(".", 21)},
		"a call starts it over":           {repeat("b", 10) + "c" + repeat("b", 11), repeat(".", 21) + "#"},
		"calls alone":                     {repeat("c", 30), repeat(".", 30)},
		"loading":                         {repeat("l", 30) + repeat("b", 11), repeat(".", 40) + "#"},
		"unknown time is not busy time":   {repeat("b", 6) + repeat("u", 60) + repeat("b", 3), repeat(".", 69)},
		"nor does it undo what was seen":  {repeat("b", 6) + repeat("u", 60) + repeat("b", 6), repeat(".", 71) + "#"},
		"nor where the driver hangs":      {repeat("b", 6) + repeat("p", 60) + repeat("b", 6), repeat(".", 71) + "#"},
		"with our calls nobody can tell":  {repeat("b", 11) + repeat("c", 30), repeat(".", 10) + repeat("#", 10) + repeat(".", 21)},
		"a call in between ends it not":   {repeat("b", 11) + "c" + repeat("b", 20), repeat(".", 10) + repeat("#", 22)},
		"a call says nothing of others":   {repeat("b", 11) + repeat("i", 9) + "ci", repeat(".", 10) + repeat("#", 11) + "."},
		"ten seconds of quiet do":         {repeat("b", 11) + repeat("i", 11), repeat(".", 10) + repeat("#", 10) + ".."},
		"short work of others is no harm": {repeat("bbbi", 20), repeat(".", 80)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJudge(DefaultPolicy())
			var got strings.Builder
			for _, letter := range c.samples {
				m := healthy()
				m.Sample.GPUs[0].Utilization = new(100)
				switch letter {
				case 'u':
					m.Sample.GPUs[0].Utilization = nil
				case 'p':
					problem(&m)
				case 'i':
					*m.Sample.GPUs[0].Utilization = 94
				case 'c':
					m.Calls = 1
				case 'l':
					m.Loaded = false
				}
				v := j.sees(m)
				mark := byte('.')
				if holds(v, BusyElsewhere) {
					mark = '#'
				}
				if got.Len() == 10 && mark == '#' && !strings.Contains(v.Words(), "100 % busy for 10s without a call of ours") {
					t.Errorf("words %q", v.Words())
				}
				got.WriteByte(mark)
			}
			if got.String() != c.want {
				t.Errorf("samples %s\n   give %s\n   want %s", c.samples, &got, c.want)
			}
		})
	}
}

func TestHolders(t *testing.T) {
	m := healthy()
	g := m.Sample.GPUs[0]
	g.Processes = append(g.Processes, Process{300, "", new(uint64(180 << 20))}, Process{301, "Xorg", nil}, Process{302, "a", new(uint64(1 << 20))}, Process{303, "b", new(uint64(2 << 20))})
	want := "pid 200 python 2.0 GiB, pid 300 180 MiB, pid 303 b 2 MiB, 1 more"
	if got := Holders([]GPU{g, m.Sample.GPUs[1]}, []int{ours}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Holders(nil, nil); got != "" {
		t.Errorf("nobody is %q", got)
	}
}

// FuzzNext holds for whatever samples come, in whatever order.
func FuzzNext(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		j := newJudge(DefaultPolicy())
		j.BusyFor = time.Duration(r.IntN(4)) * time.Second
		for range 60 {
			m := anyMoment(r)
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
			sound(t, v, m)
			m.silence()
			m.Given = 0
			if _, silent := j.Next(h, &m.Sample, m.Server); !slices.EqualFunc(stubborn(v), stubborn(silent), func(a, b Finding) bool { return a == b }) {
				t.Fatalf("silence made %+v of %+v", silent.Findings, v.Findings)
			}
			problem(&m)
			if _, silent := j.Next(h, &m.Sample, m.Server); !slices.Equal(v.Findings, silent.Findings) || silent.Ends != nil {
				t.Fatalf("a problem made %+v (%+v) of %+v", silent.Findings, silent.Ends, v.Findings)
			}
			j.History, j.now = h, j.now.Add(time.Second)
		}
	})
}

// stubborn are the findings that only a figure takes back: a GPU that is there
// and reports nothing is not lost, and has no Xid.
func stubborn(v Verdict) []Finding {
	return slices.DeleteFunc(slices.Clone(v.Findings), func(f Finding) bool { return f.Reason == Lost || f.Reason == Xid })
}

func sound(t *testing.T, v Verdict, m moment) {
	t.Helper()
	for _, f := range v.Findings {
		if f.Words == "" || f.UUID != "" && !slices.Contains(m.Server.GPUs, f.UUID) {
			t.Fatalf("finding %+v for the GPUs %v", f, m.Server.GPUs)
		}
	}
	if v.Ends != nil && (m.PID == 0 || !(v.Ends.Reason == Lost || v.Ends.Reason == Xid) || !slices.Contains(v.Findings, *v.Ends)) {
		t.Fatalf("ends %+v with process %d and findings %+v", *v.Ends, m.PID, v.Findings)
	}
}

// clone copies all that a history holds.
func (h History) clone() History {
	h.counts, h.gpus = maps.Clone(h.counts), maps.Clone(h.gpus)
	for uuid, b := range h.gpus {
		b.others, b.ecc = copied(b.others), copied(b.ecc)
		h.gpus[uuid] = b
	}
	return h
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// anyMoment is a moment of which nothing is known but that it could be.
func anyMoment(r *rand.Rand) moment {
	m := healthy()
	maybe := func(of int) bool { return r.IntN(of) == 0 }
	m.PID = ours + r.IntN(2)
	m.PIDs = []int{m.PID}
	if maybe(8) {
		m.PID, m.PIDs = 0, nil
	}
	m.Server.GPUs = [][]string{{first}, {second}, {first, second}, {first}, nil, {"GPU-nobody-knows"}}[r.IntN(6)]
	m.Loaded, m.HasOpen, m.Calls = !maybe(4), !maybe(3), max(0, r.IntN(4)-2)
	m.Weights, m.Given = []uint64{0, 8 * gib, 12 * gib, ^uint64(0)}[r.IntN(4)], []int{0, 4096, 8192}[r.IntN(3)]
	if maybe(10) {
		problem(&m)
		return m
	}
	for i := range m.Sample.GPUs {
		g := &m.Sample.GPUs[i]
		m.others(i, []uint64{0, gib, 14 * gib, 15*gib - 100<<20}[r.IntN(4)])
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
