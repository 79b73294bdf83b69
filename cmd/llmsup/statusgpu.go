package main

import (
	"fmt"
	"io"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/models/vram"
)

func printGPUs(w io.Writer, s control.Status) {
	if len(s.GPUs) == 0 {
		return
	}
	fmt.Fprintln(w, "\nGPU\tNAME\tHEALTH\tVRAM USED\tFREE\tOF\tBUSY\tTEMPERATURE\tPOWER")
	for _, g := range s.GPUs {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Index, g.Name, g.Health,
			gib(g.MemoryUsedBytes), gib(g.MemoryFreeBytes), gib(g.MemoryTotalBytes),
			figure(g.UtilizationPercent, " %"), figure(g.TemperatureCelsius, " C"), watts(g.PowerWatts, g.PowerLimitWatts))
	}
}

// printGPUReasons says what is wrong with GPUs, and why none are there.
func printGPUReasons(out io.Writer, s control.Status) {
	if s.GPUProblem != "" {
		fmt.Fprintf(out, "\nno GPU is read: %s\n", printable(s.GPUProblem))
		return
	}
	for _, g := range s.GPUs {
		if g.Reason != "" {
			fmt.Fprintf(out, "\nGPU %d is %s: %s\n", g.Index, g.Health, printable(g.Reason))
		}
	}
}

// printVRAM says what a server's model takes.
func printVRAM(out io.Writer, v control.Server) {
	if v.VRAM == nil {
		return
	}
	need := vram.Need{Weights: v.VRAM.WeightsBytes, KV: v.VRAM.KVBytes, Compute: v.VRAM.ComputeBytes}
	fmt.Fprintf(out, "\n%s needs %s of VRAM", v.Name, need)
	if v.VRAM.HeldBytes != nil {
		fmt.Fprintf(out, ", and holds %s", gib(v.VRAM.HeldBytes))
	}
	fmt.Fprintln(out)
}

func watts(draw, limit *float64) string {
	if draw == nil {
		return "n/a"
	}
	if limit == nil {
		return fmt.Sprintf("%.0f W", *draw)
	}
	return fmt.Sprintf("%.0f of %.0f W", *draw, *limit)
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
