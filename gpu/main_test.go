package gpu

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// roleVariable makes the test binary a program that reads GPUs. A process of its own is
// needed since LD_LIBRARY_PATH decides at its start which NVML library it loads.
const roleVariable = "LLMSUP_TEST_GPU_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		runRole(role)
		return
	}
	// With the race detector, every child would take a second to exit.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// report is what that program prints, one line of JSON for each sample.
type report struct {
	Driver, CUDA, Problem string
	GPUs                  []GPU
	CPU                   time.Duration // of the whole program, up to now
}

func runRole(role string) {
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	printSample := func(s *Sample) {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			panic(err)
		}
		err := out.Encode(report{s.Driver, s.CUDA, s.Problem, s.GPUs, time.Duration(usage.Utime.Nano() + usage.Stime.Nano())})
		if err != nil {
			panic(err)
		}
	}
	switch role {
	case "rounds": // For the line "N" it prints the sample of second N; for "N times", the last of N samples.
		m := NewMonitor(zerolog.Nop())
		s := session{driver: m.driver}
		began, second := time.Now(), 0
		for in.Scan() {
			fields, times := strings.Fields(in.Text()), 1
			number, err := strconv.Atoi(fields[0])
			if err != nil {
				panic(err)
			}
			if len(fields) > 1 {
				times = number
			} else {
				second = number
			}
			for range times {
				m.publishResult(s.round(began.Add(time.Duration(second) * time.Second)))
				second++
			}
			printSample(m.Sample())
		}
		s.close()
	case "monitor": // prints each sample
		m := NewMonitor(zerolog.Nop())
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); m.Run(ctx) }()
		go func() {
			for in.Scan() { // until the parent closes it
			}
			cancel()
		}()
		for {
			s := m.Sample()
			if !s.At.IsZero() {
				printSample(s)
			}
			select {
			case <-s.Changed:
			case <-ended:
				return
			}
		}
	default:
		panic("unknown role " + role)
	}
}
