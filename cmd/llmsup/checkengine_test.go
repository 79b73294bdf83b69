package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

func TestMatchDevices(t *testing.T) {
	const big, small = "NVIDIA GeForce RTX 4090", "NVIDIA RTX A2000"
	for name, tc := range map[string]struct {
		gpus, devices []string // devices: NAME DESCRIPTION
		want          []string
	}{
		"each":                  {[]string{big, small}, []string{"CUDA0 " + big, "CUDA1 " + small}, []string{"CUDA0", "CUDA1"}},
		"CUDA's order":          {[]string{small, big}, []string{"CUDA0 " + big, "CUDA1 " + small}, []string{"CUDA1", "CUDA0"}},
		"two of the same":       {[]string{big, big}, []string{"Vulkan0 " + big, "Vulkan1 " + big}, []string{"Vulkan0", "Vulkan1"}},
		"one of two is hidden":  {[]string{big, big}, []string{"Vulkan0 " + big}, []string{"Vulkan0", ""}},
		"another vendor's":      {[]string{big}, []string{"Vulkan0 AMD Radeon Graphics (RADV RAPHAEL)", "Vulkan1 " + big}, []string{"Vulkan1"}},
		"a longer name":         {[]string{"NVIDIA GeForce RTX 4070"}, []string{"CUDA0 NVIDIA GeForce RTX 4070 Ti"}, []string{""}},
		"a part of one":         {[]string{"NVIDIA H200"}, []string{"CUDA0 NVIDIA H200 MIG 1g.18gb"}, []string{"CUDA0"}},
		"a GPU without a name":  {[]string{""}, []string{"CUDA0 " + big}, []string{""}},
		"llama-server has none": {[]string{big}, nil, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			var gpus []gpu.GPU
			for _, name := range tc.gpus {
				gpus = append(gpus, gpu.GPU{Name: name})
			}
			var devices []llamacpp.Device
			for _, text := range tc.devices {
				name, description, _ := strings.Cut(text, " ")
				devices = append(devices, llamacpp.Device{Name: name, Description: description})
			}
			if got := matchDevices(gpus, devices); !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

func TestWhyUnseen(t *testing.T) {
	for name, tc := range map[string]struct {
		h    llamacpp.Hardware
		want string
	}{
		"no backend":       {llamacpp.Hardware{Backends: []string{"CPU (zen4)"}}, "it has loaded no backend for GPUs; use one that was built for CUDA (--llama-server FILE), or, if it is the one of scripts/llama-server.sh, install"},
		"linked in":        {llamacpp.Hardware{}, "it has loaded no backend for GPUs; "},
		"Vulkan":           {llamacpp.Hardware{Backends: []string{"Vulkan", "CPU"}}, "its backend Vulkan finds no GPU; install the part of NVIDIA's driver for Vulkan (Debian: nvidia-vulkan-icd; "},
		"CUDA":             {llamacpp.Hardware{Backends: []string{"CUDA", "CPU"}}, "its backends find no GPU; it may need a newer driver"},
		"others are there": {llamacpp.Hardware{Devices: []llamacpp.Device{{Name: "Vulkan0"}}}, "it has other devices; "},
	} {
		t.Run(name, func(t *testing.T) {
			if got := whyUnseen(tc.h); !strings.HasPrefix(got, tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
