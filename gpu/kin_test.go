package gpu

import "testing"

// TestKin: what our other servers hold of a GPU, and do with it, is held against
// nobody.
func TestKin(t *testing.T) {
	const kin = 300
	shared := func() moment {
		m := healthy()
		g := &m.Sample.GPUs[0]
		held := uint64(9 * gib)
		g.Processes = append(g.Processes, Process{PID: kin, Program: "llama-server", Memory: &held})
		*g.MemoryUsed += held
		*g.MemoryFree = 100 << 20
		m.Kin = []int{kin}
		return m
	}
	j := newJudge(DefaultPolicy())
	j.sees(healthy()) // before it came
	for range 20 {
		if v := j.sees(shared()); len(v.Findings) > 0 {
			t.Fatalf("our own other server is pressure: %+v", v.Findings)
		}
	}
	busy := func(works bool) moment {
		m := shared()
		*m.Sample.GPUs[0].Utilization = 99
		m.KinWork = works
		return m
	}
	for range 30 {
		if v := j.sees(busy(true)); len(v.Findings) > 0 {
			t.Fatalf("its work is somebody else's: %+v", v.Findings)
		}
	}
	found := false
	for range 30 {
		found = found || holds(j.sees(busy(false)), BusyElsewhere)
	}
	if !found {
		t.Error("the GPU is busy, none of ours works, and nothing is said")
	}
}

// TestSurvivableXids degrade, and end nothing.
func TestSurvivableXids(t *testing.T) {
	for id := range survivableXids {
		j := newJudge(DefaultPolicy())
		m := healthy()
		m.Sample.GPUs[0].Xids = []uint64{id}
		if v := j.sees(m); !holds(v, Xid) || v.Ends != nil {
			t.Errorf("Xid %d: findings %+v, ends %+v", id, v.Findings, v.Ends)
		}
	}
}

// TestShortAnyway: a GPU that was filled to the brim on purpose is short without
// anybody's growth.
func TestShortAnyway(t *testing.T) {
	brim := func(more uint64) moment {
		m := healthy()
		*m.Sample.GPUs[0].MemoryUsed += more
		*m.Sample.GPUs[0].MemoryFree = 120<<20 - more
		return m
	}
	j := newJudge(DefaultPolicy())
	j.sees(brim(0))
	for range 20 {
		if v := j.sees(brim(60 << 20)); len(v.Findings) > 0 {
			t.Fatalf("%+v", v.Findings)
		}
	}
}
