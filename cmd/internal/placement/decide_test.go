package placement

import (
	"errors"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

const gib = uint64(1) << 30

// card is a GPU with 24 GiB of VRAM, of which some are free.
func card(index int, free uint64) gpu.GPU {
	return gpu.GPU{Index: index, UUID: uuidOf(index), Name: "RTX", MemoryTotal: new(24 * gib), MemoryFree: &free}
}

func uuidOf(index int) string { return "GPU-" + string(rune('a'+index)) }

func lostCard(index int) gpu.GPU {
	return gpu.GPU{Index: index, UUID: uuidOf(index), Name: "RTX", Lost: true}
}

// TestDecide: which workload may start now, and why another one waits.
func TestDecide(t *testing.T) {
	a, ab := []string{"GPU-a"}, []string{"GPU-a", "GPU-b"}
	needs := func(weights uint64) vram.Need { return vram.Need{Weights: weights * gib, Compute: gib} }
	one := []gpu.GPU{card(0, 10*gib)}
	two := []gpu.GPU{card(0, 10*gib), card(1, 20*gib)}
	held := card(0, 4*gib)
	held.ProcessesKnown = true
	held.Processes = []gpu.Process{{PID: 9, Program: "train", Memory: new(20 * gib)}}
	unknown := card(0, 0)
	unknown.MemoryFree = nil
	start, reserve := Decision{}, Decision{Reserves: true}
	wait := func(reason string) Decision { return Decision{Wait: reason} }
	for name, tc := range map[string]struct {
		request   Request
		residents []Resident
		sample    gpu.Sample
		want      Decision
	}{
		"it fits":             {Request{UUIDs: a, Need: needs(9)}, nil, gpu.Sample{GPUs: one}, reserve},
		"a byte is missing":   {Request{UUIDs: a, Need: vram.Need{Weights: 10*gib + 1}}, nil, gpu.Sample{GPUs: one}, wait("waiting for VRAM: needs 10.0 GiB, 10.0 GiB free")},
		"others hold it":      {Request{UUIDs: a, Need: needs(9)}, nil, gpu.Sample{GPUs: []gpu.GPU{held}}, wait("waiting for VRAM: needs 10.0 GiB, 4.0 GiB free; held by pid 9 train 20.0 GiB")},
		"it never fits":       {Request{UUIDs: a, Need: needs(30)}, nil, gpu.Sample{GPUs: one}, wait("waiting for VRAM: needs 31.0 GiB, 10.0 GiB free; the GPUs have only 24.0 GiB: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore")},
		"on two GPUs":         {Request{UUIDs: ab, Need: needs(28)}, nil, gpu.Sample{GPUs: two}, reserve},
		"buffers on each GPU": {Request{UUIDs: ab, Need: needs(29)}, nil, gpu.Sample{GPUs: two}, wait("waiting for VRAM: needs 31.0 GiB, 30.0 GiB free")},

		"the fit is ignored":  {Request{UUIDs: a, Need: needs(30), IgnoreFit: true}, nil, gpu.Sample{GPUs: one}, start},
		"the need is unknown": {Request{UUIDs: a}, nil, gpu.Sample{GPUs: one}, start},
		"it may need less":    {Request{UUIDs: a, Need: vram.Need{Weights: 30 * gib, Overestimated: true}}, nil, gpu.Sample{GPUs: one}, start},
		"free VRAM unknown":   {Request{UUIDs: a, Need: needs(30)}, nil, gpu.Sample{GPUs: []gpu.GPU{unknown}}, start},
		"no GPU at all":       {Request{Need: needs(30)}, nil, gpu.Sample{}, start},
		"the driver fails":    {Request{UUIDs: a, Need: needs(30)}, nil, gpu.Sample{GPUs: one, Problem: "no driver"}, start},

		"no GPU is wanted":         {Request{Selector: gpu.None, Need: needs(30)}, nil, gpu.Sample{GPUs: one}, start},
		"no such GPU":              {Request{Selector: "7", NotFound: errors.New("there is no GPU 7")}, nil, gpu.Sample{GPUs: one}, wait("waiting for a GPU: there is no GPU 7")},
		"no such GPU, no driver":   {Request{Selector: "7", NotFound: errors.New("there is no GPU 7")}, nil, gpu.Sample{Problem: "no driver"}, start},
		"the named GPU is lost":    {Request{Selector: "0", UUIDs: a}, nil, gpu.Sample{GPUs: []gpu.GPU{lostCard(0)}}, wait("waiting for GPU 0 (RTX), which the driver cannot reach; search for NVRM in dmesg")},
		"one of two named is lost": {Request{Selector: "0,1", UUIDs: ab}, nil, gpu.Sample{GPUs: []gpu.GPU{lostCard(0), card(1, gib)}}, wait("waiting for GPU 0 (RTX), which the driver cannot reach; search for NVRM in dmesg")},
		"one of all is lost":       {Request{UUIDs: ab, Need: needs(9)}, nil, gpu.Sample{GPUs: []gpu.GPU{lostCard(0), card(1, 20*gib)}}, reserve},
		"what is left is too few":  {Request{UUIDs: ab, Need: needs(20)}, nil, gpu.Sample{GPUs: []gpu.GPU{lostCard(0), card(1, 20*gib)}}, wait("waiting for VRAM: needs 21.0 GiB, 20.0 GiB free")},
		"all are lost":             {Request{UUIDs: a}, nil, gpu.Sample{GPUs: []gpu.GPU{lostCard(0)}}, wait("waiting for GPU 0 (RTX), which the driver cannot reach; search for NVRM in dmesg")},

		"a resident has claimed all": {Request{UUIDs: a, Need: needs(9)}, []Resident{{"mail", a, 0}}, gpu.Sample{GPUs: one}, reserve},
		"a resident loads":           {Request{UUIDs: a, Need: needs(6)}, []Resident{{"mail", a, 4 * gib}}, gpu.Sample{GPUs: one}, wait("waiting for VRAM: needs 7.0 GiB, 10.0 GiB free, of which 4.0 GiB are reserved for mail")},
		"two residents load":         {Request{UUIDs: a, Need: needs(6)}, []Resident{{"mail", ab, 6 * gib}, {"embed", a, gib}}, gpu.Sample{GPUs: one}, wait("waiting for VRAM: needs 7.0 GiB, 10.0 GiB free, of which 4.0 GiB are reserved for mail, embed")},
		"a resident elsewhere":       {Request{UUIDs: a, Need: needs(9)}, []Resident{{"mail", []string{"GPU-b"}, 4 * gib}}, gpu.Sample{GPUs: two}, reserve},

		"a single GPU, the best":   {Request{UUIDs: ab, Need: needs(19), Args: []string{"--split-mode", "none"}}, nil, gpu.Sample{GPUs: two}, reserve},
		"a single GPU, too small":  {Request{UUIDs: ab, Need: needs(20), Args: []string{"--split-mode", "none"}}, nil, gpu.Sample{GPUs: two}, wait("waiting for VRAM: needs 21.0 GiB, 20.0 GiB free")},
		"a single GPU, by its own": {Request{Selector: "0,1", UUIDs: ab, Need: needs(19), Args: []string{"--split-mode", "none", "--main-gpu", "0"}}, nil, gpu.Sample{GPUs: two}, wait("waiting for VRAM: needs 20.0 GiB, 10.0 GiB free")},
	} {
		t.Run(name, func(t *testing.T) {
			got := Decide(tc.request, tc.residents, &tc.sample)
			if got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
			if again := Decide(tc.request, tc.residents, &tc.sample); again != got {
				t.Errorf("asked again, it decides %+v", again)
			}
			if strings.Contains(got.Wait, "  ") || got.Wait != "" && got.Reserves {
				t.Errorf("%+v", got)
			}
		})
	}
}
