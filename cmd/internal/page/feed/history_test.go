package feed

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// sampled is the section of the history.
type sampled struct {
	Interval int `json:"interval_seconds"`
	Until    time.Time
	GPUs     []gpuHistory
}

func sample(t *testing.T, h *history) (s sampled) {
	t.Helper()
	if err := json.Unmarshal(h.json(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHistory: the last samples of all GPUs are of the same time, what the driver does not
// report is null, and a GPU that is read no more is forgotten after an hour.
func TestHistory(t *testing.T) {
	h := &history{}
	start := time.Now()
	n := 0
	add := func(gpus ...control.GPU) { h.add(start.Add(time.Duration(n)*sampleInterval), gpus); n++ }
	a := control.GPU{UUID: "a", UtilizationPercent: new(50), MemoryUsedBytes: new(uint64(7))}
	b := control.GPU{UUID: "b", PowerWatts: new(300.5)}
	add(a)
	add(a)
	add(b, a)
	s := sample(t, h)
	if len(s.GPUs) != 2 || s.GPUs[0].UUID != "a" || s.Interval != 10 || !s.Until.Equal(start.Add(2*sampleInterval)) {
		t.Fatalf("%+v", s)
	}
	for _, g := range s.GPUs {
		if len(g.Utilization) != 3 || len(g.MemoryUsed) != 3 || len(g.Temperature) != 3 || len(g.Power) != 3 {
			t.Errorf("%+v", g)
		}
	}
	first, second := s.GPUs[0], s.GPUs[1]
	if *first.Utilization[0] != 50 || *first.MemoryUsed[2] != 7 || first.Temperature[0] != nil || second.Power[1] != nil || *second.Power[2] != 300.5 {
		t.Errorf("%+v", s)
	}
	for range maxSamples {
		add(a)
	}
	if s = sample(t, h); len(s.GPUs) != 1 || s.GPUs[0].UUID != "a" || len(s.GPUs[0].Utilization) != maxSamples {
		t.Errorf("after an hour without b: %d GPUs", len(s.GPUs))
	}
	add()
	if s = sample(t, h); s.GPUs[0].Utilization[maxSamples-1] != nil || s.GPUs[0].Utilization[maxSamples-2] == nil {
		t.Errorf("a sample without the GPU: %+v", s.GPUs[0])
	}
}

// TestUpstreamTimes: an upstream is as it is since it was first seen so, or since the start.
func TestUpstreamTimes(t *testing.T) {
	start := time.Now()
	u := &upstreamTimes{started: start}
	at := func(minutes int, healthy bool) time.Duration {
		now := start.Add(time.Duration(minutes) * time.Minute)
		return u.observe(now, []control.Upstream{{Name: "openrouter", Healthy: healthy}})[0].Since.Sub(start)
	}
	for i, tc := range []struct {
		minutes int
		healthy bool
		want    time.Duration
	}{{1, true, 0}, {2, true, 0}, {3, false, 3 * time.Minute}, {4, false, 3 * time.Minute}, {5, true, 5 * time.Minute}} {
		if got := at(tc.minutes, tc.healthy); got != tc.want {
			t.Errorf("%d: since %s, want %s", i, got, tc.want)
		}
	}
	if list := u.observe(start.Add(time.Hour), []control.Upstream{{Name: "new"}}); list[0].Since.Sub(start) != time.Hour {
		t.Errorf("a new one: %+v", list)
	}
}
