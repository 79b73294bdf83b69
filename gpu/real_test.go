//go:build linux && cgo

package gpu

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// TestReal compares the GPUs of this machine with nvidia-smi.
func TestReal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := NewMonitor(zerolog.Nop())
	ended := make(chan struct{})
	s := m.Sample()
	go func() { defer close(ended); m.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	late := time.After(waitLimit)
	for s.At.IsZero() || s.Problem == hangs { // a driver without persistence mode starts slowly
		select {
		case <-s.Changed:
			s = m.Sample()
		case <-late:
			t.Fatalf("no sample in %s (%q)", waitLimit, s.Problem)
		}
	}
	if s.Problem != "" || len(s.GPUs) == 0 {
		t.Logf("no GPU is here: %s", cmp.Or(s.Problem, "the driver has none"))
		return
	}
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu=index,uuid,name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits").Output()
	if err != nil {
		t.Fatalf("nvidia-smi: %v", err)
	}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	asked := 0
	for ; lines.Scan(); asked++ {
		fields := strings.Split(lines.Text(), ", ")
		if len(fields) != 6 {
			t.Fatalf("nvidia-smi has %q", lines.Text())
		}
		g := s.Find(fields[1])
		if g == nil {
			t.Errorf("%s is not among %+v", fields[1], s.GPUs)
			continue
		}
		t.Logf("GPU %d: %s, driver %s, CUDA %s, %s of %s", g.Index, g.Name, s.Driver, s.CUDA, sizeOf(g.MemoryUsed), sizeOf(g.MemoryTotal))
		if got := []string{strconv.Itoa(g.Index), g.UUID, g.Name, s.Driver}; !reflect.DeepEqual(got, fields[:4]) {
			t.Errorf("%q, nvidia-smi has %q", got, fields[:4])
		}
		near(t, "memory.total", g.MemoryTotal, fields[4], 1)
		near(t, "memory.used", g.MemoryUsed, fields[5], 64)
	}
	if asked != len(s.GPUs) {
		t.Errorf("%d GPUs, nvidia-smi has %d", len(s.GPUs), asked)
	}
}

func sizeOf(bytes *uint64) string {
	if bytes == nil {
		return "n/a"
	}
	return Size(*bytes)
}

// near compares bytes with nvidia-smi's MiB, which are [N/A] if unknown.
func near(t *testing.T, what string, got *uint64, reply string, within float64) {
	t.Helper()
	mib, err := strconv.ParseFloat(reply, 64)
	switch {
	case err != nil && got == nil:
	case err != nil || got == nil:
		t.Errorf("%s is %s, nvidia-smi has %s", what, sizeOf(got), reply)
	case max(float64(*got)/(1<<20)-mib, mib-float64(*got)/(1<<20)) > within:
		t.Errorf("%s is %.1f MiB, nvidia-smi has %s", what, float64(*got)/(1<<20), reply)
	}
}

// BenchmarkSample measures one sample of two GPUs; 5000 us of CPU a second are 0.5 % of a
// core. It includes reading nvmltest's file at each call, in place of the work of
// NVIDIA's driver.
func BenchmarkSample(b *testing.B) {
	r := startReader(b, "rounds", nvmltest.Build(b, nvmltest.Modern), twoGPUs())
	idle := r.at(0).CPU
	b.ResetTimer()
	if _, err := fmt.Fprintf(r.in, "%d times\n", b.N); err != nil {
		b.Fatal(err)
	}
	busy := r.next().CPU
	b.ReportMetric(float64((busy-idle).Microseconds())/float64(b.N), "cpu-us/sample")
}
