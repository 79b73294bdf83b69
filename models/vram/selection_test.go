package vram

import (
	"strings"
	"testing"
)

func TestSingleGPU(t *testing.T) {
	for args, want := range map[string]int{ // -1 = several
		"": -1, "-sm layer -mg 1": -1, "-sm none": 0, "-sm none -mg 1": 1, "--main-gpu 2 --split-mode none": 2,
		"-dev CUDA1": 1, "-dev Vulkan0": 0, "-dev CUDA0,CUDA1": -1, "-dev none": -1, "-dev 3": -1, "-dev CUDA": -1,
	} {
		got := -1
		if index, ok := SingleGPU(strings.Fields(args)); ok {
			got = index
		}
		if got != want {
			t.Errorf("%q: %d, want %d", args, got, want)
		}
	}
}

func TestSharedContext(t *testing.T) {
	for args, want := range map[string]bool{"": true, "-np 4": false, "-np 4 -kvu": true, "-np -1": true} {
		if got := SharedContext(strings.Fields(args)); got != want {
			t.Errorf("%q: %t", args, got)
		}
	}
}
