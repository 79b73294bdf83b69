package main

import (
	"fmt"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

func (p *page) gpuTable(gpus []control.GPU) {
	if len(gpus) == 0 {
		return
	}
	rows := [][]string{{"GPU", "HEALTH", "VRAM USED", "FREE", "BUSY", "TEMP", "POWER"}}
	for _, g := range gpus {
		rows = append(rows, gpuRow(g))
	}
	p.line("")
	p.table(rows, wordTable)
}

func gpuRow(g control.GPU) []string {
	return []string{
		fmt.Sprintf("%d %s", g.Index, strings.TrimPrefix(printable(g.Name), "NVIDIA ")), g.Health, memoryUsed(g), sizeOrNA(g.MemoryFreeBytes),
		valueOrNA(g.UtilizationPercent, "%"), valueOrNA(g.TemperatureCelsius, " C"), powerDraw(g.PowerWatts, g.PowerLimitWatts),
	}
}

// memoryUsed returns the used and the total memory of a GPU, as in 9.4/23.6 GiB.
func memoryUsed(g control.GPU) string {
	if g.MemoryUsedBytes == nil || g.MemoryTotalBytes == nil {
		return sizeOrNA(g.MemoryUsedBytes)
	}
	used, total := sizeOrNA(g.MemoryUsedBytes), sizeOrNA(g.MemoryTotalBytes)
	if number, unit, _ := strings.Cut(used, " "); strings.HasSuffix(total, " "+unit) {
		used = number
	}
	return used + "/" + total
}

// powerDraw returns the power that a GPU draws and its limit, as in 230/450 W.
func powerDraw(draw, limit *float64) string {
	if draw == nil {
		return "n/a"
	}
	if limit == nil {
		return fmt.Sprintf("%.0f W", *draw)
	}
	return fmt.Sprintf("%.0f/%.0f W", *draw, *limit)
}

// gpuConditions prints what is wrong with each GPU, or why llmsup cannot read them.
func (p *page) gpuConditions(s control.Status) {
	if s.GPUProblem != "" {
		p.line("")
		p.sentence("  ", "cannot read the GPUs: %s", printable(s.GPUProblem))
		return
	}
	for _, g := range s.GPUs {
		if g.Reason != "" {
			p.line("")
			p.sentence("  ", "GPU %d is %s: %s", g.Index, g.Health, printable(g.Reason))
		}
	}
}

// vramNeed returns how much VRAM a server's model needs, and how much its process holds.
func vramNeed(v control.Server) string {
	if v.VRAM == nil {
		return ""
	}
	need := vram.Need{Weights: v.VRAM.WeightsBytes, KV: v.VRAM.KVBytes, Compute: v.VRAM.ComputeBytes}
	text := fmt.Sprintf(", needs %s of VRAM", need)
	if need.Weights == need.Total() { // vram: in the configuration
		text = fmt.Sprintf(", is assumed to need %s of VRAM", gpu.Size(need.Total()))
	}
	if v.VRAM.Uncertain != "" {
		text += " (which may be far off: " + v.VRAM.Uncertain + ")"
	}
	if v.VRAM.HeldBytes != nil {
		text += fmt.Sprintf(", and holds %s", sizeOrNA(v.VRAM.HeldBytes))
	}
	return text
}
