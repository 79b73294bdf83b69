package config

import (
	"strings"
	"testing"
	"time"
)

func TestGPUSettings(t *testing.T) {
	c := mustParse(t, `
servers:
  a: {model: /m.gguf, gpu: 1}
  b: {model: /m.gguf}
gpu: {devices: "GPU-ab,2", fit: ignore, bad_samples: 1, good_samples: 2, vram_floor: 1GiB, busy_percent: 80, busy_for: 1m}
`)
	want := GPU{Devices: "GPU-ab,2", Fit: FitIgnore, BadSamples: 1, GoodSamples: 2, VRAMFloor: 1 << 30, BusyPercent: 80, BusyFor: time.Minute}
	if err := c.Validate(); err != nil || c.GPU != want {
		t.Errorf("%+v, %v", c.GPU, err)
	}
	if a, b := c.DevicesOf(c.Servers["a"]), c.DevicesOf(c.Servers["b"]); a != "1" || b != "GPU-ab,2" {
		t.Errorf("a runs on %q, b on %q", a, b)
	}
	none := "none"
	if err := c.Apply(Flags{GPU: &none}); err != nil || c.DevicesOf(c.Servers["a"]) != "none" || c.DevicesOf(c.Servers["b"]) != "none" {
		t.Errorf("--gpu none does not win over the file: %+v, %v", c.Servers, err)
	}
	if c := mustParse(t, "gpu: {good_samples: 20}\n"); c.GPU.BadSamples != 3 || c.GPU.GoodSamples != 20 || c.GPU.Fit != FitWait {
		t.Errorf("what the file leaves out has its default: %+v", c.GPU)
	}
}

func TestGPUErrors(t *testing.T) {
	for text, want := range map[string]string{
		"gpu: {devices: cuda0}":                    `f.yaml:1: gpu.devices: "cuda0" is not a GPU`,
		"gpu:\n  fit: maybe":                       `f.yaml:2: gpu.fit: "maybe" is neither wait nor ignore`,
		"gpu: {bad_samples: 0}":                    "gpu.bad_samples: 0 is not between 1 and 3600",
		"gpu: {good_samples: -1}":                  "gpu.good_samples: -1 is not between",
		"gpu: {busy_percent: 101}":                 "gpu.busy_percent: 101 is not between 1 and 100",
		"gpu: {busy_for: 2h}":                      "gpu.busy_for: 2h0m0s is neither 0s nor between 1s and 1h",
		"gpu: {busy_for: 1ns}":                     "gpu.busy_for: 1ns is neither",
		"gpu: {vram_floor: lots}":                  "f.yaml:1: wrong value; want a size",
		"gpu: {vram_flor: 1GiB}":                   `f.yaml:1: unknown key "vram_flor"; did you mean "vram_floor"?`,
		"gpu: 1":                                   "f.yaml:1: wrong kind of value; want keys and values",
		"servers: {a: {model: /m.gguf, gpu: all}}": `servers.a.gpu: "all" is not a GPU`,
	} {
		c, err := Parse("f.yaml", []byte(text))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
