package feed

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

const (
	sampleInterval = 10 * time.Second
	maxSamples     = 360 // an hour
)

// history has the readings of each GPU in the last hour.
type history struct {
	mu    sync.Mutex
	until time.Time
	gpus  map[string]*gpuHistory // by UUID
	raw   json.RawMessage        // as JSON; nil = it has changed
}

// gpuHistory has one value per sample, the oldest first; null = unknown.
type gpuHistory struct {
	UUID        string     `json:"uuid"`
	Utilization []*int     `json:"utilization"` // percent
	MemoryUsed  []*uint64  `json:"memory_used"` // bytes
	Temperature []*int     `json:"temperature"` // degrees Celsius
	Power       []*float64 `json:"power"`       // watts
}

// add adds a sample of each GPU. GPUs that are read no more have unknown values, and are
// forgotten after an hour.
func (h *history) add(now time.Time, gpus []control.GPU) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gpus == nil {
		h.gpus = map[string]*gpuHistory{}
	}
	samples := 0
	for _, g := range h.gpus {
		samples = max(samples, len(g.Utilization))
	}
	read := map[string]control.GPU{}
	for _, g := range gpus {
		read[g.UUID] = g
		if h.gpus[g.UUID] == nil {
			h.gpus[g.UUID] = newGPUHistory(g.UUID, samples)
		}
	}
	for uuid, g := range h.gpus {
		g.add(read[uuid])
		if g.unknown() && read[uuid].UUID != uuid {
			delete(h.gpus, uuid)
		}
	}
	h.until, h.raw = now, nil
}

// newGPUHistory returns the history of a GPU whose first samples are unknown, so that the
// last ones of all GPUs are of the same time.
func newGPUHistory(uuid string, samples int) *gpuHistory {
	return &gpuHistory{UUID: uuid, Utilization: make([]*int, samples), MemoryUsed: make([]*uint64, samples), Temperature: make([]*int, samples), Power: make([]*float64, samples)}
}

func (g *gpuHistory) add(now control.GPU) {
	g.Utilization = push(g.Utilization, now.UtilizationPercent)
	g.MemoryUsed = push(g.MemoryUsed, now.MemoryUsedBytes)
	g.Temperature = push(g.Temperature, now.TemperatureCelsius)
	g.Power = push(g.Power, now.PowerWatts)
}

func (g *gpuHistory) unknown() bool {
	return !slices.ContainsFunc(g.Utilization, func(v *int) bool { return v != nil }) &&
		!slices.ContainsFunc(g.MemoryUsed, func(v *uint64) bool { return v != nil }) &&
		!slices.ContainsFunc(g.Temperature, func(v *int) bool { return v != nil }) &&
		!slices.ContainsFunc(g.Power, func(v *float64) bool { return v != nil })
}

func push[T any](list []T, value T) []T {
	if len(list) >= maxSamples {
		copy(list, list[1:])
		list[len(list)-1] = value
		return list
	}
	return append(list, value)
}

// json returns the history as JSON, which must not be changed.
func (h *history) json() json.RawMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.raw == nil {
		list := []*gpuHistory{}
		for _, uuid := range sortedNames(h.gpus) {
			list = append(list, h.gpus[uuid])
		}
		h.raw, _ = json.Marshal(struct { // all of it can be encoded
			Interval int           `json:"interval_seconds"`
			Until    time.Time     `json:"until"`
			GPUs     []*gpuHistory `json:"gpus"`
		}{int(sampleInterval.Seconds()), h.until, list})
	}
	return h.raw
}

// upstreamTimes remembers since when each upstream is as it is.
type upstreamTimes struct {
	started time.Time // of llmsup
	mu      sync.Mutex
	since   map[string]upstream
}

// observe returns the upstreams with these times. A change between two observations counts
// from the second one.
func (u *upstreamTimes) observe(now time.Time, all []control.Upstream) (list []upstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	next := map[string]upstream{}
	for _, up := range all {
		last, known := u.since[up.Name]
		shown := upstream{up, now}
		switch {
		case u.since == nil:
			shown.Since = u.started
		case known && last.Healthy == up.Healthy:
			shown.Since = last.Since
		}
		next[up.Name] = shown
		list = append(list, shown)
	}
	u.since = next
	return list
}
