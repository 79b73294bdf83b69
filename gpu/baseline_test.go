package gpu

import (
	"slices"
	"testing"
)

// TestBaselines checks what values are compared with: those when this process started, or
// when it had loaded its model.
func TestBaselines(t *testing.T) {
	type step struct {
		change func(*scenario)
		want   Reason // that holds after it; "" = none
	}
	times := func(n int, s step) []step { return slices.Repeat([]step{s}, n) }
	ecc := func(errors uint64) func(*scenario) {
		return func(m *scenario) { *m.Sample.GPUs[0].ECCUncorrected = errors }
	}
	full := func(m *scenario) { m.setForeign(0, 15*gib-100<<20) }
	another := func(m *scenario) {
		m.PID, m.PIDs = ours+1, []int{ours + 1}
		m.Sample.GPUs[0].Processes[0].PID = ours + 1
	}
	with := func(changes ...func(*scenario)) func(*scenario) {
		return func(m *scenario) {
			for _, change := range changes {
				change(m)
			}
		}
	}
	loading := func(m *scenario) { m.Loaded = false }
	nothing := func(*scenario) {}
	cases := map[string][]step{
		"errors before its start": times(20, step{ecc(7), ""}),
		"errors of the old process are not the new one's": slices.Concat(
			times(1, step{nothing, ""}), times(2, step{ecc(5), ""}), times(3, step{ecc(5), ECC}),
			times(9, step{with(ecc(5), another), ECC}), times(5, step{with(ecc(5), another), ""}),
			times(2, step{with(ecc(6), another), ""}), times(1, step{with(ecc(6), another), ECC}),
		),
		"errors that are first reported later": slices.Concat(
			times(3, step{(*scenario).removeFigures, ""}), times(20, step{ecc(7), ""}),
		),
		"a process that starts on a full GPU": times(20, step{full, ""}),
		"the GPU fills while it loads": slices.Concat(
			times(3, step{loading, ""}), times(5, step{with(full, loading), ""}), times(2, step{full, ""}), times(9, step{full, VRAMPressure}),
		),
		"the GPU fills after it has loaded": slices.Concat(
			times(3, step{loading, ""}), times(5, step{nothing, ""}), times(2, step{full, ""}), times(9, step{full, VRAMPressure}),
		),
		"the GPU is freed and fills again": slices.Concat(
			times(5, step{full, ""}), times(1, step{nothing, ""}), times(2, step{full, ""}), times(1, step{full, VRAMPressure}),
		),
		"another process starts on the full GPU": slices.Concat(
			times(1, step{nothing, ""}), times(2, step{full, ""}), times(3, step{full, VRAMPressure}),
			times(5, step{with(full, another, loading), VRAMPressure}),
			times(9, step{with(full, another), VRAMPressure}), times(3, step{with(full, another), ""}),
		),
		"its own growth": slices.Concat(times(1, step{nothing, ""}), times(20, step{func(m *scenario) {
			*m.Sample.GPUs[0].Processes[0].Memory += 14*gib - 50<<20
			m.setForeign(0, gib)
		}, ""})),
		"others grow, with enough left": slices.Concat(times(1, step{nothing, ""}), times(20, step{func(m *scenario) {
			m.setForeign(0, 15*gib-256<<20)
		}, ""})),
		"others grow, and leave a byte too little": slices.Concat(times(1, step{nothing, ""}), times(2, step{func(m *scenario) {
			m.setForeign(0, 15*gib-256<<20+1)
		}, ""}), times(3, step{func(m *scenario) {
			m.setForeign(0, 15*gib-256<<20+1)
		}, VRAMPressure})),
		"another process is on the GPU": slices.Concat(
			times(2, step{func(m *scenario) { brokenGPUs[OnCPU].bad(m, 0) }, ""}),
			times(3, step{func(m *scenario) { brokenGPUs[OnCPU].bad(m, 0) }, OnCPU}),
			times(1, step{another, ""}),
		),
		"another process has its context": slices.Concat(
			times(2, step{func(m *scenario) { m.ActualContext = 512 }, ""}),
			times(3, step{func(m *scenario) { m.ActualContext = 512 }, ContextReduced}),
			times(1, step{another, ""}),
		),
		"bad samples of two processes do not add up": slices.Concat(
			times(2, step{func(m *scenario) { m.ActualContext = 512 }, ""}),
			times(2, step{func(m *scenario) { m.ActualContext = 512; another(m) }, ""}),
			times(1, step{func(m *scenario) { m.ActualContext = 512; another(m) }, ContextReduced}),
		),
		"another GPU": slices.Concat(
			times(2, step{func(m *scenario) { m.lose(0) }, ""}), times(1, step{func(m *scenario) { m.lose(0) }, Lost}),
			times(1, step{func(m *scenario) { another(m); m.lose(0); m.Server.GPUs = []string{second} }, ""}),
		),
	}
	for name, steps := range cases {
		t.Run(name, func(t *testing.T) {
			j := newPolicyRun(DefaultPolicy())
			for i, s := range steps {
				m := healthy()
				s.change(&m)
				v := j.observe(m)
				var got Reason
				if len(v.Conditions) > 0 {
					got = v.Conditions[0].Reason
				}
				if len(v.Conditions) > 1 || got != s.want {
					t.Fatalf("sample %d: %q, want %q", i+1, v.Message(), s.want)
				}
			}
		})
	}
}
