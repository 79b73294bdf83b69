package supervisor

import (
	"testing"
	"time"
)

func TestSignsOfLife(t *testing.T) {
	start := time.Unix(1000, 0)
	busy := vitals{at: start, health: true, slots: true, calls: 4, bytes: 100, tokens: 50, counted: true, cpu: time.Minute}
	for name, tc := range map[string]struct {
		edit func(*vitals) // what has changed 2 s later
		want bool
	}{
		"idle and answering":          {func(v *vitals) { v.calls = 0 }, true},
		"idle, /health is silent":     {func(v *vitals) { v.calls, v.health = 0, false }, false},
		"idle, /slots hangs":          {func(v *vitals) { v.calls, v.slots = 0, false }, false},
		"idle, silent, spinning":      {func(v *vitals) { v.calls, v.health, v.cpu = 0, false, v.cpu+2*time.Second }, false},
		"busy, output":                {func(v *vitals) { v.bytes++ }, true},
		"busy, counters":              {func(v *vitals) { v.tokens++ }, true},
		"busy, output, /slots hangs":  {func(v *vitals) { v.bytes++; v.slots = false }, true},
		"busy, nothing":               {func(*vitals) {}, false},
		"stopped":                     {func(v *vitals) { v.health, v.slots, v.counted, v.tokens = false, false, false, 0 }, false},
		"/slots hangs":                {func(v *vitals) { v.slots, v.counted, v.tokens = false, false, 20 }, false},
		"stuck, and spinning":         {func(v *vitals) { v.slots, v.cpu = false, v.cpu+4*time.Second }, false},
		"a prompt on the CPU":         {func(v *vitals) { v.cpu += 3 * time.Second }, true},
		"a prompt on one slow thread": {func(v *vitals) { v.cpu += time.Second }, true},
		"CPU of the probes alone":     {func(v *vitals) { v.cpu += 50 * time.Millisecond }, false},
		"a thread spins on the GPU":   {func(v *vitals) { v.usesGPU = true; v.cpu += 2 * time.Second }, false},
		"half of it runs on the CPU":  {func(v *vitals) { v.usesGPU = true; v.cpu += 8 * time.Second }, true},
		"restarted counters are work": {func(v *vitals) { v.tokens = 0 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			now := busy
			now.at = start.Add(2 * time.Second)
			tc.edit(&now)
			if got := now.alive(busy); got != tc.want {
				t.Errorf("alive: %t, want %t (%s)", got, tc.want, now.words())
			}
		})
	}
}
