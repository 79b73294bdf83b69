package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// gpus checks the GPUs, whether llama-server sees them, and whether the models fit into their
// free memory. hardware is what llama-server computes on; nil = unknown. running is the
// status of a running daemon; nil = none.
func (f *findings) gpus(ctx context.Context, cfg *config.Config, headers map[string]*gguf.Header, hardware *llamacpp.Hardware, running *control.Status) {
	if cfg.GPU.Devices == config.NoGPU {
		f.ok("GPU: disabled")
		return
	}
	s := gpu.ReadOnce(ctx)
	if s.Problem != "" {
		f.warn("GPU: cannot read any: %s", s.Problem)
		return
	}
	f.ok("GPU driver: %s, for CUDA up to %s", orNA(s.Driver), orNA(s.CUDA))
	if len(s.GPUs) == 0 {
		f.warn("GPU: the driver reports none")
	}
	for _, g := range s.GPUs {
		f.gpu(g)
	}
	if hardware != nil {
		f.seenGPUs(*hardware, s.GPUs)
	}
	reserved := map[string]uint64{} // bytes for the servers checked so far, by GPU
	for _, name := range sortedNames(cfg.Servers) {
		f.checkFit(name, cfg, headers[name], s, running, reserved)
	}
}

func (f *findings) gpu(g gpu.GPU) {
	if g.Lost {
		f.fail(fmt.Errorf("GPU %d: the driver cannot reach it: search dmesg for NVRM", g.Index))
		return
	}
	f.ok("GPU %d: %s, %s, %s of %s free", g.Index, g.Name, g.UUID, sizeOrNA(g.MemoryFree), sizeOrNA(g.MemoryTotal))
	if g.ECCUncorrected != nil && *g.ECCUncorrected > 0 {
		f.warn("GPU %d: %d uncorrectable memory errors since the driver was loaded", g.Index, *g.ECCUncorrected)
	}
}

// checkFit checks whether a server's model fits beside those of the servers before it.
func (f *findings) checkFit(name string, cfg *config.Config, h *gguf.Header, s *gpu.Sample, running *control.Status, reserved map[string]uint64) {
	server := cfg.Servers[name]
	devices := cfg.DevicesOf(server)
	uuids, err := s.Select(devices)
	if err != nil {
		f.fail(fmt.Errorf("server %s: %w", name, err))
		return
	}
	if h == nil && !server.IsCommand() || devices == config.NoGPU || len(uuids) == 0 {
		return // reported already, or nothing to check
	}
	need := assumedNeed(server, h)
	if need.Total() == 0 && server.IsCommand() {
		f.ok("server %s: VRAM needed: unknown until it has been measured; `vram` sets what to assume", name)
		return
	}
	need = need.Split(gpusLoaded(server, devices, need, s, uuids))
	message := fmt.Sprintf("server %s: VRAM needed: %s", name, needInWords(server, need))
	free, total, known := vramOf(s, uuids)
	for _, uuid := range uuids {
		free -= min(free, reserved[uuid])
		if !server.OnDemand() { // others leave for it, and it for them
			reserved[uuid] += need.Total() / uint64(len(uuids))
		}
	}
	switch {
	case need.Total() == 0:
		f.ok("%s", message)
	case hasProcess(running, name):
		f.ok("%s; it is already running", message)
	case !known:
		f.ok("%s; the free VRAM is unknown", message)
	case server.OnDemand() && need.Total() <= total:
		f.ok("%s, of %s; it is loaded on demand", message, gpu.Size(total))
	case need.Total() <= free:
		f.ok("%s, and %s free", message, gpu.Size(free))
	case need.Overestimated:
		f.warn("%s, and %s free; start runs it anyway", message, gpu.Size(free))
	case cfg.GPU.Fit == config.FitIgnore:
		f.warn("%s, and %s free; start runs it anyway, because gpu.fit is ignore", message, gpu.Size(free))
	case need.Total() > total:
		f.fail(fmt.Errorf("%s, and there are only %s: lower --ctx-size or --n-gpu-layers, or set gpu.fit to ignore", message, gpu.Size(total)))
	default:
		f.warn("%s, and %s free: it would wait for more%s", message, gpu.Size(free), heldBy(s, uuids))
	}
}

// gpusLoaded returns on how many of the selected GPUs a server's model is loaded. A model on
// demand without gpu is loaded on one, if it fits there.
func gpusLoaded(server config.Server, devices string, need vram.Need, s *gpu.Sample, uuids []string) int {
	if _, single := vram.SingleGPU(server.Args); single {
		return 1
	}
	fits := func(uuid string) bool {
		_, total, known := vramOf(s, []string{uuid})
		return known && need.Total() <= total
	}
	if server.OnDemand() && devices == "" && slices.ContainsFunc(uuids, fits) {
		return 1
	}
	return len(uuids)
}

// assumedNeed returns the configured VRAM need, else the estimate; the header is nil if
// there is no file.
func assumedNeed(server config.Server, h *gguf.Header) vram.Need {
	if server.VRAM > 0 || h == nil {
		return vram.Need{Weights: uint64(server.VRAM)}
	}
	return vram.Estimate(h, server.Run())
}

// needInWords returns what assumedNeed returned, and whether it is certain.
func needInWords(server config.Server, need vram.Need) string {
	switch {
	case server.VRAM > 0:
		return gpu.Size(need.Total()) + ", as vram in the configuration says"
	case need.UncertainBecause != "":
		return need.String() + " (which may be far off: " + need.UncertainBecause + ")"
	}
	return need.String()
}

// heldBy names the processes that hold the memory of some GPUs.
func heldBy(s *gpu.Sample, uuids []string) string {
	var gpus []gpu.GPU
	for _, uuid := range uuids {
		if g := s.Find(uuid); g != nil {
			gpus = append(gpus, *g)
		}
	}
	if holders := gpu.MemoryHolders(gpus, nil); holders != "" {
		return "; held by " + holders
	}
	return ""
}

// vramOf adds up the memory of some GPUs. known is false if it is unknown for one.
func vramOf(s *gpu.Sample, uuids []string) (free, total uint64, known bool) {
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

// hasProcess reports whether a daemon runs a process for a server.
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
