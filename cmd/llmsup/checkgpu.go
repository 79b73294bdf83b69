package main

import (
	"context"
	"fmt"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// gpus looks for GPUs, and whether the models fit into what they have free.
// running is the daemon that runs already; nil = none does.
func (f *findings) gpus(ctx context.Context, cfg *config.Config, headers map[string]*gguf.Header, running *control.Status) {
	if cfg.GPU.Devices == config.NoGPU {
		f.ok("GPU: none is wanted")
		return
	}
	s := gpu.Look(ctx)
	if s.Problem != "" {
		f.warn("GPU: none is read: %s", s.Problem)
		return
	}
	f.ok("GPU driver: %s, for CUDA up to %s", orNA(s.Driver), orNA(s.CUDA))
	if len(s.GPUs) == 0 {
		f.warn("GPU: the driver knows of none")
	}
	for _, g := range s.GPUs {
		if g.Lost {
			f.fail(fmt.Errorf("GPU %d: the driver can't reach it: look for NVRM in dmesg", g.Index))
			continue
		}
		f.ok("GPU %d: %s, %s, %s of %s free", g.Index, g.Name, g.UUID, gib(g.MemoryFree), gib(g.MemoryTotal))
		if g.ECCUncorrected != nil && *g.ECCUncorrected > 0 {
			f.warn("GPU %d: %d memory errors that could not be corrected since the driver was loaded", g.Index, *g.ECCUncorrected)
		}
	}
	taken := map[string]uint64{} // by those before, in bytes
	for _, name := range sortedNames(cfg.Servers) {
		f.fit(name, cfg, headers[name], s, running, taken)
	}
}

// fit says whether a server's model fits beside those that were looked at before.
func (f *findings) fit(name string, cfg *config.Config, h *gguf.Header, s *gpu.Sample, running *control.Status, taken map[string]uint64) {
	server := cfg.Servers[name]
	devices := cfg.DevicesOf(server)
	uuids, err := s.Select(devices)
	if err != nil {
		f.fail(fmt.Errorf("server %s: %w", name, err))
		return
	}
	if h == nil || devices == config.NoGPU || len(uuids) == 0 {
		return // it has been said why, or there is nothing to say
	}
	need := vram.Estimate(h, vram.Run{CtxSize: server.CtxSize, GPULayers: server.NGPULayers, Args: server.Args})
	words := fmt.Sprintf("server %s: VRAM needed: %s", name, need)
	if need.Unsure != "" {
		words += " (which may be far off: " + need.Unsure + ")"
	}
	free, total, known := sum(s, uuids)
	for _, uuid := range uuids {
		free -= min(free, taken[uuid])
		taken[uuid] += need.Total() / uint64(len(uuids))
	}
	switch {
	case need.Total() == 0:
		f.ok("%s", words)
	case hasProcess(running, name):
		f.ok("%s; it runs already", words)
	case !known:
		f.ok("%s; what is free can't be told", words)
	case need.Less && need.Total() > free:
		f.warn("%s, and %s free; it is started all the same", words, gpu.Size(free))
	case cfg.GPU.Fit == config.FitIgnore && need.Total() > free:
		f.warn("%s, and %s free; it is started all the same, as gpu.fit says", words, gpu.Size(free))
	case need.Total() > total:
		f.fail(fmt.Errorf("%s, and there are only %s: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore", words, gpu.Size(total)))
	case need.Total() > free:
		f.warn("%s, and %s free: it would wait for more%s", words, gpu.Size(free), heldBy(s, uuids))
	default:
		f.ok("%s, and %s free", words, gpu.Size(free))
	}
}

func heldBy(s *gpu.Sample, uuids []string) string {
	var gpus []gpu.GPU
	for _, uuid := range uuids {
		if g := s.Find(uuid); g != nil {
			gpus = append(gpus, *g)
		}
	}
	if holders := gpu.Holders(gpus, nil); holders != "" {
		return "; held by " + holders
	}
	return ""
}

// sum adds up what some GPUs have. known is false where one does not tell.
func sum(s *gpu.Sample, uuids []string) (free, total uint64, known bool) {
	for _, uuid := range uuids {
		g := s.Find(uuid)
		if g == nil || g.MemoryFree == nil || g.MemoryTotal == nil {
			return 0, 0, false
		}
		free += *g.MemoryFree
		total += *g.MemoryTotal
	}
	return free, total, true
}

// hasProcess says whether a daemon has a process for a server.
func hasProcess(running *control.Status, name string) bool {
	if running == nil {
		return false
	}
	for _, s := range running.Servers {
		if s.Name == name && s.PID != 0 {
			return true
		}
	}
	return false
}

func orNA(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}
