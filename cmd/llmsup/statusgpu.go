package main

import (
	"fmt"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

func (p *page) gpus(gpus []control.GPU) {
	if len(gpus) == 0 {
		return
	}
	rows := [][]string{{"GPU", "HEALTH", "VRAM USED", "FREE", "BUSY", "TEMP", "POWER"}}
	for _, g := range gpus {
		rows = append(rows, []string{
			fmt.Sprintf("%d %s", g.Index, strings.TrimPrefix(printable(g.Name), "NVIDIA ")), g.Health, used(g), gib(g.MemoryFreeBytes),
			figure(g.UtilizationPercent, "%"), figure(g.TemperatureCelsius, " C"), watts(g.PowerWatts, g.PowerLimitWatts),
		})
	}
	p.line("")
	p.table(rows, wordTable)
}

// used is how much of its memory a GPU uses, as in 9.4/23.6 GiB.
func used(g control.GPU) string {
	if g.MemoryUsedBytes == nil || g.MemoryTotalBytes == nil {
		return gib(g.MemoryUsedBytes)
	}
	used, total := gib(g.MemoryUsedBytes), gib(g.MemoryTotalBytes)
	if number, unit, _ := strings.Cut(used, " "); strings.HasSuffix(total, " "+unit) {
		used = number
	}
	return used + "/" + total
}

// gpuReasons writes what is wrong with GPUs, and why none are there.
func (p *page) gpuReasons(s control.Status) {
	if s.GPUProblem != "" {
		p.line("")
		p.sentence("  ", "no GPU is read: %s", printable(s.GPUProblem))
		return
	}
	for _, g := range s.GPUs {
		if g.Reason != "" {
			p.line("")
			p.sentence("  ", "GPU %d is %s: %s", g.Index, g.Health, printable(g.Reason))
		}
	}
}

// vramOf says what a server's model takes.
func vramOf(v control.Server) string {
	if v.VRAM == nil {
		return ""
	}
	need := vram.Need{Weights: v.VRAM.WeightsBytes, KV: v.VRAM.KVBytes, Compute: v.VRAM.ComputeBytes}
	text := fmt.Sprintf(", needs %s of VRAM", need)
	if v.VRAM.HeldBytes != nil {
		text += fmt.Sprintf(", and holds %s", gib(v.VRAM.HeldBytes))
	}
	return text
}

func watts(draw, limit *float64) string {
	if draw == nil {
		return "n/a"
	}
	if limit == nil {
		return fmt.Sprintf("%.0f W", *draw)
	}
	return fmt.Sprintf("%.0f/%.0f W", *draw, *limit)
}

func gib(bytes *uint64) string {
	if bytes == nil {
		return "n/a"
	}
	return gpu.Size(*bytes)
}

func figure[N int | int64](n *N, unit string) string {
	if n == nil {
		return "n/a"
	}
	return fmt.Sprint(*n) + unit
}
