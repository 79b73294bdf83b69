package supervisor

import (
	"testing"
	"time"
)

// opaque makes a sample that of an engine without counters that does not answer.
func opaque(v *liveness) {
	v.Sample = Sample{Opaque: true}
}

func TestSignsOfLife(t *testing.T) {
	start := time.Unix(1000, 0)
	busy := liveness{
		Sample: Sample{HTTPAnswers: true, EngineAnswers: true, Work: 50, WorkKnown: true},
		at:     start, calls: 4, bytes: 100, cpu: time.Minute,
	}
	for name, tc := range map[string]struct {
		edit func(*liveness) // what has changed 2 s later
		want bool
	}{
		"idle and answering":          {func(v *liveness) { v.calls = 0 }, true},
		"idle, HTTP does not answer":  {func(v *liveness) { v.calls, v.HTTPAnswers = 0, false }, false},
		"idle, engine hangs":          {func(v *liveness) { v.calls, v.EngineAnswers = 0, false }, false},
		"idle, silent, spinning":      {func(v *liveness) { v.calls, v.HTTPAnswers, v.cpu = 0, false, v.cpu+2*time.Second }, false},
		"busy, output":                {func(v *liveness) { v.bytes++ }, true},
		"busy, counters":              {func(v *liveness) { v.Work++ }, true},
		"busy, output, engine hangs":  {func(v *liveness) { v.bytes++; v.EngineAnswers = false }, true},
		"busy, nothing":               {func(*liveness) {}, false},
		"stopped":                     {func(v *liveness) { v.HTTPAnswers, v.EngineAnswers, v.WorkKnown, v.Work = false, false, false, 0 }, false},
		"busy, engine hangs":          {func(v *liveness) { v.EngineAnswers, v.WorkKnown, v.Work = false, false, 20 }, false},
		"stuck, and spinning":         {func(v *liveness) { v.EngineAnswers, v.cpu = false, v.cpu+4*time.Second }, false},
		"a prompt on the CPU":         {func(v *liveness) { v.cpu += 3 * time.Second }, true},
		"a prompt on one slow thread": {func(v *liveness) { v.cpu += time.Second }, true},
		"CPU of the probes alone":     {func(v *liveness) { v.cpu += 50 * time.Millisecond }, false},
		"a thread spins on the GPU":   {func(v *liveness) { v.usesGPU = true; v.cpu += 2 * time.Second }, false},
		"half of it runs on the CPU":  {func(v *liveness) { v.usesGPU = true; v.cpu += 8 * time.Second }, true},

		"opaque, busy, answering":              {func(v *liveness) { v.Opaque, v.WorkKnown = true, false }, true},
		"opaque, nothing":                      {func(v *liveness) { opaque(v) }, false},
		"opaque, idle, nothing":                {func(v *liveness) { opaque(v); v.calls = 0 }, false},
		"opaque, a byte":                       {func(v *liveness) { opaque(v); v.bytes++ }, true},
		"opaque, computes":                     {func(v *liveness) { opaque(v); v.cpu += time.Second }, true},
		"opaque, computes for a client gone":   {func(v *liveness) { opaque(v); v.calls = 0; v.cpu += time.Second }, true},
		"opaque, computes on a GPU":            {func(v *liveness) { opaque(v); v.usesGPU = true; v.cpu += 2 * time.Second }, true},
		"opaque, computes for too long":        {func(v *liveness) { opaque(v); v.silent = true; v.cpu += time.Second }, false},
		"opaque, the CPU of its idle threads":  {func(v *liveness) { opaque(v); v.cpu += 50 * time.Millisecond }, false},
		"opaque, silent for long, now answers": {func(v *liveness) { v.Opaque, v.WorkKnown, v.silent = true, false, true }, true},

		"restarted counters are work": {func(v *liveness) { v.Work = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := busy
			now.at = start.Add(2 * time.Second)
			tc.edit(&now)
			if got := now.alive(busy); got != tc.want {
				t.Errorf("alive: %t, want %t (%s)", got, tc.want, now.describe())
			}
		})
	}
}
