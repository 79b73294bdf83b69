package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// busyGPU is a GPU with all kinds of parts.
func busyGPU(index int) control.GPU {
	const tenth = 1 << 30 / 10
	return control.GPU{Index: index, Name: "RTX 4090", Health: "ok", MemoryTotalBytes: new(uint64(240 * tenth)), MemoryParts: []control.MemoryPart{
		{Kind: "server", Server: "qwen2.5-14b", Bytes: 94 * tenth},
		{Kind: "server", Server: "whisper", Bytes: 21 * tenth},
		{Kind: "foreign", Bytes: 14 * tenth},
		{Kind: "unlisted", Bytes: 4 * tenth},
		{Kind: "free", Bytes: 107 * tenth},
	}}
}

func TestVRAMBar(t *testing.T) {
	split := control.GPU{Index: 1, MemoryParts: []control.MemoryPart{{Kind: "server", Server: "whisper", Bytes: 1 << 30}, {Kind: "server", Server: "split", Bytes: 1 << 30}, {Kind: "free", Bytes: 2 << 30}}}
	for name, tc := range map[string]struct {
		display display
		gpus    []control.GPU
		want    string
	}{
		"letters": {display{width: 60}, []control.GPU{busyGPU(0)}, `
GPU 0  AAAAAAAAAAAAAAAAAAAAABBBBxxx?........................
       A qwen2.5-14b 9.4 GiB  B whisper 2.1 GiB
       x other processes 1.4 GiB  ? unlisted 410 MiB
       . free 10.7 GiB
`},
		"the same letter on both GPUs": {display{width: 60, unicode: true}, []control.GPU{busyGPU(0), split}, `
GPU 0  AAAAAAAAAAAAAAAAAAAAABBBBxxx?........................
       A qwen2.5-14b 9.4 GiB  B whisper 2.1 GiB
       x other processes 1.4 GiB  ? unlisted 410 MiB
       . free 10.7 GiB

GPU 1  BBBBBBBBBBBBBCCCCCCCCCCCCCC..........................
       B whisper 1.0 GiB  C split 1.0 GiB  . free 2.0 GiB
`},
		"colours": {display{width: 40, unicode: true, color: true}, []control.GPU{split}, "\n" +
			"GPU 1  \x1b[36m████████\x1b[0m\x1b[33m█████████\x1b[0m\x1b[90m................\x1b[0m\n" +
			"       \x1b[36m█\x1b[0m whisper 1.0 GiB\n       \x1b[33m█\x1b[0m split 1.0 GiB  \x1b[90m.\x1b[0m free 2.0 GiB\n"},
		"unknown": {display{width: 60}, []control.GPU{{Index: 0}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			p := &page{out: &out, display: tc.display}
			p.vramBars(tc.gpus)
			if out.String() != tc.want {
				t.Errorf("%s\nwant %s\n%q", out.String(), tc.want, out.String())
			}
		})
	}
}

// TestApportion: the columns add up to the bar's, and each part has one.
func TestApportion(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes   []uint64
		columns int
		want    []int
	}{
		"one":               {[]uint64{5}, 20, []int{20}},
		"halves":            {[]uint64{5, 5}, 21, []int{11, 10}},
		"tiny ones":         {[]uint64{1, 1000, 1, 1}, 20, []int{1, 17, 1, 1}},
		"more than columns": {[]uint64{1, 1, 1, 1}, 3, []int{1, 1, 1, 1}},
		"nothing":           {nil, 20, []int{}},
	} {
		var parts []control.MemoryPart
		for _, bytes := range tc.bytes {
			parts = append(parts, control.MemoryPart{Bytes: bytes})
		}
		if got := apportion(parts, tc.columns); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
