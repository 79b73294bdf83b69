package gpu

import "testing"

// TestSiblings checks that the memory and the work of llmsup's other servers do not count.
func TestSiblings(t *testing.T) {
	const sibling = 300
	shared := func() scenario {
		m := healthy()
		g := &m.Sample.GPUs[0]
		held := uint64(9 * gib)
		g.Processes = append(g.Processes, Process{PID: sibling, Program: "llama-server", Memory: &held})
		*g.MemoryUsed += held
		*g.MemoryFree = 100 << 20
		m.SiblingPIDs = []int{sibling}
		return m
	}
	j := newPolicyRun(DefaultPolicy())
	j.observe(healthy()) // before the sibling started
	for range 20 {
		if v := j.observe(shared()); len(v.Conditions) > 0 {
			t.Fatalf("a sibling counts as pressure: %+v", v.Conditions)
		}
	}
	busy := func(works bool) scenario {
		m := shared()
		*m.Sample.GPUs[0].Utilization = 99
		m.SiblingsBusy = works
		return m
	}
	for range 30 {
		if v := j.observe(busy(true)); len(v.Conditions) > 0 {
			t.Fatalf("a sibling's work counts as another process's: %+v", v.Conditions)
		}
	}
	found := false
	for range 30 {
		found = found || holds(j.observe(busy(false)), BusyElsewhere)
	}
	if !found {
		t.Error("the GPU is busy, none of ours works, and nothing is reply")
	}
}

// TestSurvivableXids checks that these degrade the server and do not replace its process.
func TestSurvivableXids(t *testing.T) {
	for id := range survivableXids {
		j := newPolicyRun(DefaultPolicy())
		m := healthy()
		m.Sample.GPUs[0].Xids = []uint64{id}
		if v := j.observe(m); !holds(v, Xid) || v.Fatal != nil {
			t.Errorf("Xid %d: findings %+v, fatal %+v", id, v.Conditions, v.Fatal)
		}
	}
}

// TestShortAnyway checks a GPU that llmsup itself has filled.
func TestShortAnyway(t *testing.T) {
	brim := func(more uint64) scenario {
		m := healthy()
		*m.Sample.GPUs[0].MemoryUsed += more
		*m.Sample.GPUs[0].MemoryFree = 120<<20 - more
		return m
	}
	j := newPolicyRun(DefaultPolicy())
	j.observe(brim(0))
	for range 20 {
		if v := j.observe(brim(60 << 20)); len(v.Conditions) > 0 {
			t.Fatalf("%+v", v.Conditions)
		}
	}
}
