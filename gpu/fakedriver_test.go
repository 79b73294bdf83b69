package gpu

import (
	"bytes"
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// driverMu synchronizes what a test sets with the driver's goroutine. synctest's virtual
// clock orders them, but the race detector does not know that.
var driverMu sync.Mutex

func synchronize() { driverMu.Lock(); defer driverMu.Unlock() }

// fakeDriver is a driver made of functions; a nil function succeeds.
type fakeDriver struct {
	opens  func() (versions, error)
	reads  func() ([]GPU, bool, error)
	closes func()
}

func (f fakeDriver) open() (versions, error) {
	synchronize()
	if f.opens == nil {
		return versions{"550.54.14", "12.4"}, nil
	}
	return f.opens()
}

func (f fakeDriver) read() ([]GPU, bool, error) {
	synchronize()
	if f.reads == nil {
		return cards(), false, nil
	}
	return f.reads()
}

func (f fakeDriver) close() {
	synchronize()
	if f.closes != nil {
		f.closes()
	}
}

// cards returns two GPUs with one value each.
func cards() []GPU {
	return []GPU{
		{Index: 0, UUID: first, Name: "A100", Temperature: new(40)},
		{Index: 1, UUID: second, Name: "L4", Temperature: new(50)},
	}
}

// lostCards returns the same GPUs, one of them lost.
func lostCards(lost int) []GPU {
	gpus := cards()
	gpus[lost] = gpus[lost].blank()
	gpus[lost].Lost = true
	return gpus
}

// runningMonitor is a monitor that runs in a synctest bubble.
type runningMonitor struct {
	*Monitor
	t     *testing.T
	began time.Time
	log   bytes.Buffer // read it only after synctest.Wait
	stop  func()
	ended chan struct{}
}

// startMonitor runs a monitor, which has published nothing yet, until the test ends.
func startMonitor(t *testing.T, d driver) *runningMonitor {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &runningMonitor{t: t, began: time.Now(), stop: cancel, ended: make(chan struct{})}
	r.Monitor = newMonitor(d, zerolog.New(&r.log))
	before := r.Sample()
	if !before.At.IsZero() || before.GPUs != nil || before.Problem != "" || before.Changed == nil {
		t.Errorf("before its first reading a monitor has %+v", before)
	}
	go func() { defer close(r.ended); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-r.ended })
	return r
}

// after returns the latest sample at some time after the monitor's start, on synctest's
// clock.
func (r *runningMonitor) after(passed time.Duration) *Sample {
	r.t.Helper()
	synchronize()
	time.Sleep(time.Until(r.began.Add(passed)))
	synctest.Wait()
	return r.Sample()
}

func (r *runningMonitor) want(passed time.Duration, problem string, gpus []GPU) *Sample {
	r.t.Helper()
	s := r.after(passed)
	if s.Problem != problem {
		r.t.Errorf("after %s: problem %q, want %q", passed, s.Problem, problem)
	}
	if len(s.GPUs) != len(gpus) || len(gpus) > 0 && !reflect.DeepEqual(s.GPUs, gpus) {
		r.t.Errorf("after %s: GPUs %+v, want %+v", passed, s.GPUs, gpus)
	}
	return s
}

// wantLog checks the number of log lines and a part of the last one.
func (r *runningMonitor) wantLog(lines int, part string) {
	r.t.Helper()
	synctest.Wait()
	log := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	if r.log.Len() == 0 {
		log = nil
	}
	if len(log) != lines || lines > 0 && !strings.Contains(log[lines-1], part) {
		r.t.Errorf("log %q, want %d lines, the last with %q", log, lines, part)
	}
}

// gate can block a call.
type gate struct {
	shut  bool
	open  chan struct{}
	calls int
}

func (g *gate) wait() {
	g.calls++
	if g.shut {
		<-g.open
	}
}
