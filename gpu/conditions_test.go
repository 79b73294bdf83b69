package gpu

import (
	"strings"
	"testing"
)

// TestConditions checks that the right one of two GPUs is named, with its values, and that
// only the server's own GPUs count.
func TestConditions(t *testing.T) {
	policy := DefaultPolicy()
	policy.BusyFor = 0
	for reason, c := range brokenGPUs {
		play := func(gpu int, of ...string) Verdict {
			j := newPolicyRun(policy)
			var v Verdict
			for i := range 4 {
				m := healthy()
				m.Server.GPUs = of
				if i > 0 {
					c.bad(&m, gpu)
				}
				v = j.observe(m)
			}
			return v
		}
		t.Run(string(reason), func(t *testing.T) {
			v := play(0, first)
			if len(v.Conditions) != 1 || v.Conditions[0].Reason != reason {
				t.Fatalf("conditions %+v, want %s alone", v.Conditions, reason)
			}
			uuid := first
			if c.own {
				uuid = ""
			}
			if v.Conditions[0].UUID != uuid {
				t.Errorf("GPU %q, want %q", v.Conditions[0].UUID, uuid)
			}
			for _, want := range c.messageParts {
				if !strings.Contains(v.Conditions[0].Message, want) {
					t.Errorf("message %q, want %q in it", v.Conditions[0].Message, want)
				}
			}
			if got, want := v.Message(), string(reason)+": "+v.Conditions[0].Message; got != want {
				t.Errorf("in one line %q, want %q", got, want)
			}
		})
		if c.own {
			continue
		}
		t.Run(string(reason)+" of one of two", func(t *testing.T) {
			v := play(1, first, second)
			if len(v.Conditions) != 1 || v.Conditions[0].Reason != reason || v.Conditions[0].UUID != second {
				t.Errorf("conditions %+v, want %s of the second GPU", v.Conditions, reason)
			}
			if want := strings.Replace(c.messageParts[0], "0", "1", 1); !strings.Contains(v.Message(), want) {
				t.Errorf("message %q, want %q in it", v.Message(), want)
			}
		})
		t.Run(string(reason)+" of another's", func(t *testing.T) {
			if v := play(1, first); len(v.Conditions) > 0 || v.Fatal != nil {
				t.Errorf("conditions %+v, fatal %+v, want none: it is not this server's GPU", v.Conditions, v.Fatal)
			}
		})
	}
}

func TestXid(t *testing.T) {
	cases := map[string]struct {
		xids []uint64
		want string // part of the message; "" = no condition
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
		"memory":              {[]uint64{48}, "Xid 48 (an uncorrectable memory error"},
		"no meaning known":    {[]uint64{999}, "Xid 999: look"},
		"behind a program's":  {[]uint64{13, 31, 119}, "Xid 119"},
		"two, the graver one": {[]uint64{63, 79}, "Xid 79"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newPolicyRun(DefaultPolicy())
			m := healthy()
			m.Sample.GPUs[0].Xids = c.xids
			v := j.observe(m)
			if c.want == "" {
				if len(v.Conditions) > 0 || v.Fatal != nil {
					t.Errorf("conditions %+v, fatal %+v, want none", v.Conditions, v.Fatal)
				}
				return
			}
			if !holds(v, Xid) || !strings.Contains(v.Message(), c.want) {
				t.Fatalf("conditions %+v, want xid at once, with %q", v.Conditions, c.want)
			}
			for i := 1; i <= 10; i++ {
				v := j.observe(healthy())
				if want := i < 10; holds(v, Xid) != want {
					t.Errorf("after %d good samples it holds: %v, want %v", i, !want, want)
				}
			}
		})
	}
}

// TestOnCPU checks when a process that holds too little VRAM counts as computing on the
// CPU.
func TestOnCPU(t *testing.T) {
	unlisted := func(m *scenario) { m.Sample.GPUs[0].Processes = m.Sample.GPUs[0].Processes[1:] }
	cases := map[string]struct {
		change func(*scenario)
		want   string // part of the message; "" = no condition
	}{
		"all of it":                 {func(m *scenario) { *m.Sample.GPUs[0].Processes[0].Memory = 8 * gib }, ""},
		"a byte too little":         {func(m *scenario) { *m.Sample.GPUs[0].Processes[0].Memory = 8*gib - 1 }, "8.0 GiB"},
		"not listed, no GPU open":   {func(m *scenario) { unlisted(m); m.DeviceOpen = false }, "0 MiB of VRAM"},
		"not listed, a GPU open":    {unlisted, ""},
		"not listed, a small model": {func(m *scenario) { unlisted(m); m.DeviceOpen, m.Weights = false, 255<<20 }, ""},
		"nothing has to be there":   {func(m *scenario) { unlisted(m); m.DeviceOpen, m.Weights = false, 0 }, ""},
		"no GPU":                    {func(m *scenario) { unlisted(m); m.DeviceOpen, m.Server.GPUs = false, nil }, ""},
		"half here, half there":     {func(m *scenario) { m.Server.GPUs = []string{first, second}; m.Weights = 18 * gib }, ""},
		"too little on both":        {func(m *scenario) { m.Server.GPUs = []string{first, second}; m.Weights = 18*gib + 1 }, "18.0 GiB"},
		"a GPU without values":      {func(m *scenario) { m.Server.GPUs = []string{first, second}; m.Weights = 18*gib + 1; m.lose(1) }, ""},
		"an unknown GPU":            {func(m *scenario) { m.Server.GPUs = []string{first, "MIG-1"}; m.Weights = 18 * gib }, ""},
		"below a wrapper":           {func(m *scenario) { m.PID, m.PIDs = 90, []int{90, ours} }, ""},
		"two of them hold it":       {func(m *scenario) { m.PIDs = []int{ours, theirs}; m.Weights = 10 * gib }, ""},
		"one of two without figures": {func(m *scenario) {
			m.PIDs = []int{ours, theirs}
			m.Weights = 10 * gib
			m.Sample.GPUs[0].Processes[1].Memory = nil
		}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newPolicyRun(DefaultPolicy())
			var v Verdict
			for range 4 {
				m := healthy()
				c.change(&m)
				v = j.observe(m)
			}
			if got := holds(v, OnCPU); got != (c.want != "") || !strings.Contains(v.Message(), c.want) {
				t.Errorf("message %q, want %q in it", v.Message(), c.want)
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
		"hardware, heat":      {0x08 | 0x40, "because of heat"},
		"software, heat":      {0x20, "because of heat"},
		"power brake":         {0x08 | 0x80, "because the power supply requested it"},
		"heat and much else":  {0x20 | 0x04 | 0x100, "because of heat"},
		"nothing of our kind": {0x01 | 0x02 | 0x04 | 0x10 | 0x100, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newPolicyRun(DefaultPolicy())
			var v Verdict
			for range 3 {
				m := healthy()
				m.Sample.GPUs[0].Slowdown = &c.slowdown
				v = j.observe(m)
			}
			if got := holds(v, Thermal); got != (c.want != "") || !strings.Contains(v.Message(), c.want) {
				t.Errorf("message %q, want %q in it", v.Message(), c.want)
			}
		})
	}
}

// TestBusyFor checks how long other processes must keep a GPU busy, by the default of ten
// seconds: b is busy, u unknown, i idle, c busy with a call from llmsup, l busy while the
// server loads, p a problem with the driver.
func TestBusyFor(t *testing.T) {
	repeat := strings.Repeat
	cases := map[string]struct{ samples, want string }{
		"ten seconds":                             {repeat("b", 12), repeat(".", 10) + "##"},
		"nine, twice":                             {repeat("b", 10) + "i" + repeat("b", 10), repeat(".", 21)},
		"a call starts it over":                   {repeat("b", 10) + "c" + repeat("b", 11), repeat(".", 21) + "#"},
		"calls alone":                             {repeat("c", 30), repeat(".", 30)},
		"loading":                                 {repeat("l", 30) + repeat("b", 11), repeat(".", 40) + "#"},
		"unknown time is not busy time":           {repeat("b", 6) + repeat("u", 60) + repeat("b", 3), repeat(".", 69)},
		"nor does it undo what was seen":          {repeat("b", 6) + repeat("u", 60) + repeat("b", 6), repeat(".", 71) + "#"},
		"nor where the driver hangs":              {repeat("b", 6) + repeat("p", 60) + repeat("b", 6), repeat(".", 71) + "#"},
		"unknown while llmsup has calls":          {repeat("b", 11) + repeat("c", 30), repeat(".", 10) + repeat("#", 10) + repeat(".", 21)},
		"a call in between ends it not":           {repeat("b", 11) + "c" + repeat("b", 20), repeat(".", 10) + repeat("#", 22)},
		"a call does not show the work of others": {repeat("b", 11) + repeat("i", 9) + "ci", repeat(".", 10) + repeat("#", 11) + "."},
		"ten seconds of quiet do":                 {repeat("b", 11) + repeat("i", 11), repeat(".", 10) + repeat("#", 10) + ".."},
		"short work of others is no harm":         {repeat("bbbi", 20), repeat(".", 80)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			j := newPolicyRun(DefaultPolicy())
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
				v := j.observe(m)
				mark := byte('.')
				if holds(v, BusyElsewhere) {
					mark = '#'
				}
				if got.Len() == 10 && mark == '#' && !strings.Contains(v.Message(), "100 % busy for 10s without a call from llmsup") {
					t.Errorf("message %q", v.Message())
				}
				got.WriteByte(mark)
			}
			if got.String() != c.want {
				t.Errorf("samples %s\n   give %s\n   want %s", c.samples, &got, c.want)
			}
		})
	}
}

func TestMemoryHolders(t *testing.T) {
	m := healthy()
	g := m.Sample.GPUs[0]
	g.Processes = append(g.Processes, Process{300, "", new(uint64(180 << 20))}, Process{301, "Xorg", nil}, Process{302, "a", new(uint64(1 << 20))}, Process{303, "b", new(uint64(2 << 20))})
	want := "pid 200 python 2.0 GiB, pid 300 180 MiB, pid 303 b 2 MiB, 1 more"
	if got := MemoryHolders([]GPU{g, m.Sample.GPUs[1]}, []int{ours}); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := MemoryHolders(nil, nil); got != "" {
		t.Errorf("without processes: %q", got)
	}
}
