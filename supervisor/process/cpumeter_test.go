package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMissedCPUTime(t *testing.T) {
	before := runTime{ran: time.Minute, waited: time.Hour}
	for name, tc := range map[string]struct{ ran, waited, want time.Duration }{
		"sleeps":                             {0, 0, 0},
		"answers probes":                     {10 * time.Millisecond, 900 * time.Millisecond, 0},
		"computes":                           {2 * time.Second, 0, 0},
		"computes, and others have the CPUs": {200 * time.Millisecond, 1700 * time.Millisecond, 1700 * time.Millisecond},
		"no accounting in this kernel":       {-time.Minute, -time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := runTime{before.ran + tc.ran, before.waited + tc.waited}
			if got := now.missed(before, 2*time.Second); got != tc.want {
				t.Errorf("missed %s, want %s", got, tc.want)
			}
		})
	}
}

// TestCPUMeterOnABusyMachine: each of several processes on one CPU gets a part of it
// and is counted as if it had all of it. One that sleeps counts as nothing.
func TestCPUMeterOnABusyMachine(t *testing.T) {
	// Children inherit the one CPU from the thread that starts them.
	runtime.LockOSThread() // for good: it ends with the goroutine
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	start := func(script string) (pid int) {
		cmd := exec.Command("sh", "-c", script)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	var busy []int
	for range 5 {
		busy = append(busy, start("while :; do :; done"))
	}
	sleeping := start("exec sleep 300")
	if err := unix.SchedSetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", busy[0])); err != nil || string(raw) == "0 0 0\n" {
		skipUnsupported(t, "this kernel does not count how long threads wait for a CPU (CONFIG_SCHED_INFO)")
	}

	var working, idle CPUMeter
	from, began := working.Read(busy[:1]), time.Now()
	idle.Read([]int{sleeping})
	var work, rest time.Duration
	read := time.NewTicker(200 * time.Millisecond)
	defer read.Stop()
	for deadline := began.Add(time.Minute); work < time.Second && time.Now().Before(deadline); {
		<-read.C
		work, rest = working.Read(busy[:1])-from, idle.Read([]int{sleeping})
	}
	took := time.Since(began)
	if work < took/2 {
		t.Errorf("a process that computes all the time wanted %s of %s", work, took)
	}
	if rest > took/10 {
		t.Errorf("one that sleeps wanted %s of %s", rest, took)
	}
	if used := UsageOf(busy[:1])[busy[0]].CPU; used > took/2 {
		t.Errorf("it had %s of CPU time in %s: the test shows nothing", used, took)
	}
}
