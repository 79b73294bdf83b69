package gpu

import (
	"slices"
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
