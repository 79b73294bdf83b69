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

// scenario is a sample and the state of a server at its time.
type scenario struct {
	Sample
	Server
}

// healthy returns a loaded server on the first of two GPUs, which it shares with another
// process.
func healthy() scenario {
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
	return scenario{
		Sample{GPUs: []GPU{card(0, first), card(1, second)}},
		Server{PID: ours, PIDs: []int{ours}, GPUs: []string{first}, Loaded: true, DeviceOpen: true, Weights: 8 * gib, RequestedContext: 8192, ActualContext: 8192},
	}
}

// setForeign sets the memory that the other process holds of a GPU.
func (m *scenario) setForeign(gpu int, holds uint64) {
	g := &m.Sample.GPUs[gpu]
	*g.Processes[1].Memory = holds
	*g.MemoryUsed = *g.Processes[0].Memory + holds
	*g.MemoryFree = *g.MemoryTotal - *g.MemoryUsed
}

func (m *scenario) lose(gpu int) {
	m.Sample.GPUs[gpu] = m.Sample.GPUs[gpu].blank()
	m.Sample.GPUs[gpu].Lost = true
}

// removeFigures removes all values.
func (m *scenario) removeFigures() {
	for i, g := range m.Sample.GPUs {
		m.Sample.GPUs[i] = g.blank()
	}
}

func problem(m *scenario) {
	m.removeFigures()
	m.Problem = "the NVIDIA driver has not answered for 5s"
}

// brokenGPU describes the cause of a reason, and the scenarios in which it is unknown.
type brokenGPU struct {
	bad          func(m *scenario, gpu int)
	unknown      map[string]func(*scenario)
	messageParts []string // of the message
	own          bool     // it is of the server itself
}

var brokenGPUs = map[Reason]brokenGPU{
	VRAMPressure: {
		bad: func(m *scenario, gpu int) { m.setForeign(gpu, 15*gib-100<<20) },
		unknown: map[string]func(*scenario){
			"free":      func(m *scenario) { m.setForeign(0, 15*gib); m.Sample.GPUs[0].MemoryFree = nil },
			"used":      func(m *scenario) { m.Sample.GPUs[0].MemoryUsed = nil },
			"processes": func(m *scenario) { m.Sample.GPUs[0].Processes, m.Sample.GPUs[0].ProcessesKnown = nil, false },
			"ours":      func(m *scenario) { m.setForeign(0, 15*gib); m.Sample.GPUs[0].Processes[0].Memory = nil },
			"container": func(m *scenario) { m.setForeign(0, 15*gib); m.Sample.GPUs[0].Processes[0].PID = 4711 },
			"lost":      func(m *scenario) { m.lose(0) },
			"silence":   (*scenario).removeFigures,
			"problem":   problem,
		},
		messageParts: []string{"GPU 0", "100 MiB of VRAM free", "13.9 GiB more", "pid 200 python 14.9 GiB"},
	},
	BusyElsewhere: {
		bad: func(m *scenario, gpu int) { *m.Sample.GPUs[gpu].Utilization = 97 },
		unknown: map[string]func(*scenario){
			"utilization": func(m *scenario) { m.Sample.GPUs[0].Utilization = nil },
			"lost":        func(m *scenario) { m.lose(0) },
			"silence":     (*scenario).removeFigures,
			"problem":     problem,
		},
		messageParts: []string{"GPU 0", "97 %", "pid 200 python 1.0 GiB"},
	},
	Thermal: {
		bad: func(m *scenario, gpu int) {
			m.Sample.GPUs[gpu].Slowdown, m.Sample.GPUs[gpu].Temperature = new(HardwareThermal), new(96)
		},
		unknown: map[string]func(*scenario){
			"slowdown": func(m *scenario) { m.Sample.GPUs[0].Slowdown, m.Sample.GPUs[0].Temperature = nil, new(96) },
			"lost":     func(m *scenario) { m.lose(0) },
			"silence":  (*scenario).removeFigures,
			"problem":  problem,
		},
		messageParts: []string{"GPU 0", "because of heat", "96 C"},
	},
	ECC: {
		bad: func(m *scenario, gpu int) { *m.Sample.GPUs[gpu].ECCUncorrected = 5 },
		unknown: map[string]func(*scenario){
			"errors":  func(m *scenario) { m.Sample.GPUs[0].ECCUncorrected = nil },
			"lost":    func(m *scenario) { m.lose(0) },
			"silence": (*scenario).removeFigures,
			"problem": problem,
		},
		messageParts: []string{"GPU 0", "3 uncorrectable memory errors"},
	},
	Xid: {
		bad:          func(m *scenario, gpu int) { m.Sample.GPUs[gpu].Xids = []uint64{13, 74} },
		unknown:      map[string]func(*scenario){"problem": problem},
		messageParts: []string{"GPU 0", "Xid 74", "NVLink"},
	},
	Lost: {
		bad: func(m *scenario, gpu int) { m.lose(gpu) },
		unknown: map[string]func(*scenario){
			"problem":          problem,
			"lost and problem": func(m *scenario) { m.lose(0); problem(m) },
		},
		messageParts: []string{"GPU 0", "NVIDIA GeForce RTX 4090", "lost"},
	},
	OnCPU: {
		bad: func(m *scenario, _ int) { *m.Sample.GPUs[0].Processes[0].Memory = 300 << 20 },
		unknown: map[string]func(*scenario){
			"processes": func(m *scenario) { m.Sample.GPUs[0].Processes, m.Sample.GPUs[0].ProcessesKnown = nil, false },
			"ours":      func(m *scenario) { m.Sample.GPUs[0].Processes[0].Memory = nil },
			"container": func(m *scenario) { m.Sample.GPUs[0].Processes[0].PID = 4711 },
			"weights":   func(m *scenario) { m.Weights = 0 },
			"loading":   func(m *scenario) { m.Loaded = false },
			"lost":      func(m *scenario) { m.lose(0) },
			"silence":   (*scenario).removeFigures,
			"problem":   problem,
		},
		messageParts: []string{"300 MiB of VRAM", "8.0 GiB", "CPU"},
		own:          true,
	},
	ContextReduced: {
		bad: func(m *scenario, _ int) { m.ActualContext = 4096 },
		unknown: map[string]func(*scenario){
			"given":   func(m *scenario) { m.ActualContext = 0 },
			"loading": func(m *scenario) { m.Loaded, m.ActualContext = false, 4096 },
		},
		messageParts: []string{"4096", "8192"},
		own:          true,
	},
}

// policyRun is a policy that gets a sample each second.
type policyRun struct {
	Policy
	History
	now time.Time
}

func newPolicyRun(p Policy) *policyRun { return &policyRun{Policy: p, now: time.Unix(1e9, 0)} }

// observe passes the scenario to the policy, a second after the previous one.
func (j *policyRun) observe(m scenario) Verdict {
	m.At = j.now
	j.now = j.now.Add(time.Second)
	var v Verdict
	j.History, v = j.Next(j.History, &m.Sample, m.Server)
	return v
}

func holds(v Verdict, r Reason) bool {
	return slices.ContainsFunc(v.Conditions, func(f Condition) bool { return f.Reason == r })
}
