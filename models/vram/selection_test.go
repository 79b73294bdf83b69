package vram

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/gguf"
)

func TestSlotContext(t *testing.T) {
	for name, tt := range map[string]struct {
		trained uint32
		ctxSize int
		args    string
		want    int
	}{
		"shared by the slots":               {32768, 8192, "", 8192},
		"one for each slot":                 {32768, 8192, "-np 4", 2048},
		"shared by flag":                    {32768, 8192, "-np 4 -kvu", 8192},
		"no longer than trained":            {512, 8192, "", 512},
		"slots no longer than trained":      {512, 8192, "-np 4", 512},
		"the trained one":                   {32768, 0, "", 32768},
		"the trained one for all slots":     {32768, 0, "-np 4", 8192},
		"the trained one unknown":           {0, 8192, "", 8192},
		"the trained one unknown, no other": {0, 0, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := SlotContext(&gguf.Header{Context: tt.trained}, tt.ctxSize, strings.Fields(tt.args)); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

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

func TestChoosesGPUs(t *testing.T) {
	for args, want := range map[string]bool{
		"": false, "--flash-attn on -np 2": false, "-sm layer": true, "-mg 1": true, "-dev CUDA1": true, "-ts 3,1": true, "--tensor_split 3,1": true,
	} {
		if got := ChoosesGPUs(strings.Fields(args)); got != want {
			t.Errorf("%q: %t", args, got)
		}
	}
}

func TestSplit(t *testing.T) {
	n := Need{Weights: 100, KV: 20, Compute: 3}
	for gpus, want := range map[int]uint64{0: 123, 1: 123, 2: 126, 3: 129} {
		if got := n.Split(gpus).Total(); got != want {
			t.Errorf("%d GPUs: %d, want %d", gpus, got, want)
		}
	}
}
