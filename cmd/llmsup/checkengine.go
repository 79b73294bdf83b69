package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// llamaServer checks the program, and returns what it can compute on; nil = unknown.
func (f *findings) llamaServer(ctx context.Context, cfg *config.Config) *llamacpp.Hardware {
	if !cfg.NeedsLlamaServer() && cfg.File != "" {
		f.ok("llama-server: not needed, since no server has a `model`")
		return nil
	}
	path, err := llamacpp.FindBinary(cfg.LlamaServer)
	if err != nil {
		f.fail(err)
		return nil
	}
	version, err := llamacpp.Version(ctx, path, cfg.KeyVariables())
	if err != nil {
		f.fail(err)
		return nil
	}
	f.ok("llama-server: %s, %s", path, version)
	hardware, err := llamacpp.ReadHardware(ctx, path, cfg.KeyVariables())
	if err != nil {
		f.warn("llama-server: cannot tell what it computes on: %s", err)
		return nil
	}
	f.ok("llama-server: computes on %s", computesOn(hardware))
	return &hardware
}

// computesOn names the devices, and the backends if they are known.
func computesOn(h llamacpp.Hardware) string {
	text := "the CPU"
	if len(h.Devices) > 0 {
		var names []string
		for _, d := range h.Devices {
			names = append(names, fmt.Sprintf("%s (%s, %s)", d.Name, d.Description, gpu.Size(d.Memory)))
		}
		text = strings.Join(names, ", ")
	}
	if len(h.Backends) > 0 {
		text += "; backends: " + strings.Join(h.Backends, ", ")
	}
	return text
}

// seenGPUs warns of each GPU of the driver that llama-server does not compute on.
func (f *findings) seenGPUs(h llamacpp.Hardware, gpus []gpu.GPU) {
	for i, device := range matchDevices(gpus, h.Devices) {
		switch {
		case gpus[i].Lost:
		case device != "":
			f.ok("GPU %d: is %s of llama-server", gpus[i].Index, device)
		default:
			f.warn("GPU %d: llama-server does not use it: %s", gpus[i].Index, whyUnseen(h))
		}
	}
}

// whyUnseen says why llama-server does not see a GPU of NVIDIA's, and what to do.
func whyUnseen(h llamacpp.Hardware) string {
	const (
		driver = "install the part of NVIDIA's driver for Vulkan (Debian: nvidia-vulkan-icd; Ubuntu: libnvidia-gl-VERSION)"
		build  = "use one that was built for CUDA (--llama-server FILE)"
	)
	switch {
	case len(h.Devices) > 0:
		return "it has other devices; CUDA_VISIBLE_DEVICES or GGML_VK_VISIBLE_DEVICES may hide this one"
	case slices.Contains(h.Backends, "Vulkan"):
		return "its backend Vulkan finds no GPU; " + driver + ", or " + build
	case h.Accelerates():
		return "its backends find no GPU; it may need a newer driver, or CUDA_VISIBLE_DEVICES hides the GPU"
	}
	// The backend for Vulkan does not show up on a machine without any driver for Vulkan.
	return "it has loaded no backend for GPUs; " + build + ", or, if it is the one of scripts/llama-server.sh, " + driver
}

// matchDevices returns the name of the device that is each GPU, "" for none. llama-server
// prints neither UUID nor address, so the names of the products decide, and their order
// if several GPUs have the same.
func matchDevices(gpus []gpu.GPU, devices []llamacpp.Device) []string {
	matched := make([]string, len(gpus))
	free := slices.Clone(devices)
	for i, g := range gpus {
		at := slices.IndexFunc(free, func(d llamacpp.Device) bool {
			return d.Description == g.Name || strings.HasPrefix(d.Description, g.Name+" MIG ") // a part of it
		})
		if g.Name == "" || at < 0 {
			continue
		}
		matched[i] = free[at].Name
		free = slices.Delete(free, at, at+1)
	}
	return matched
}
