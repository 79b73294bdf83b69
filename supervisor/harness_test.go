package supervisor

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor/process"
)

// The tests of this package run servers on a fake engine and fake processes, most of
// them in virtual time. Real processes of the real llama-server run in the tests of
// supervisor/llamacpp.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine is an engine, and the probe of each of its processes.
type fakeEngine struct {
	loaded      func() error // nil = it is
	complete    func() error // nil = it does
	properties  Properties
	sample      Sample
	diagnosis   Diagnosis
	described   models.Description
	undescribed error
}

func (e fakeEngine) Command(context.Context, Spec, models.Description) (Command, error) {
	return Command{}, errors.New("no program")
}
func (e fakeEngine) Probe(Endpoint, models.Description, time.Duration) Probe { return e }
func (e fakeEngine) Describe(Spec) (models.Description, error)               { return e.described, e.undescribed }
func (e fakeEngine) Classify(Exit) Diagnosis                                 { return e.diagnosis }
func (e fakeEngine) Capabilities([]string) models.Capabilities {
	return models.Capabilities{Program: "engine"}
}

func (e fakeEngine) LogLine(line string, _ bool) (string, zerolog.Level, bool) {
	return line, zerolog.DebugLevel, true
}

func (e fakeEngine) Loaded(context.Context) error                   { return call(e.loaded) }
func (e fakeEngine) TestCall(context.Context) error                 { return call(e.complete) }
func (e fakeEngine) Properties(context.Context) (Properties, error) { return e.properties, nil }
func (e fakeEngine) BusySlots(context.Context) (int, error)         { return 0, nil }
func (e fakeEngine) Sample(context.Context) Sample                  { return e.sample }

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

// fakePID is higher than the pids that Linux gives out, so that no process has it.
const fakePID = 1 << 30

// fakeProcess is a process that ends when a test ends it, or llmsup stops it.
type fakeProcess struct {
	exit    process.Exit
	stopFor time.Duration // how long it takes to stop
	once    sync.Once
	over    chan struct{}
}

func newFakeProcess(exit process.Exit) *fakeProcess {
	return &fakeProcess{exit: exit, over: make(chan struct{})}
}

func (p *fakeProcess) PID() int              { return fakePID }
func (p *fakeProcess) Done() <-chan struct{} { return p.over }
func (p *fakeProcess) Wait() process.Exit    { <-p.over; return p.exit }
func (p *fakeProcess) end()                  { p.once.Do(func() { p.exit.At = time.Now(); close(p.over) }) }

func (p *fakeProcess) Stop(time.Duration, <-chan struct{}) {
	time.Sleep(p.stopFor)
	p.end()
}

// newServer returns a server whose processes live until they are stopped, and which
// answers all probes.
func newServer(t *testing.T, spec Spec) *Server {
	t.Helper()
	spec.Name, spec.Dir = "x", t.TempDir()
	s := New(spec, fakeEngine{}, zerolog.Nop(), nil)
	staysUp(s, nil)
	s.verifyListener = func(context.Context, string, string, int, string) (bool, error) { return true, nil }
	return s
}

// staysUp makes a server's processes live until they are stopped. complete is what its
// completions come to; nil = they succeed.
func staysUp(s *Server, complete func() error) {
	s.engine = fakeEngine{
		complete: complete, properties: Properties{Slots: 4, CtxSize: 8192}, sample: Sample{HTTPAnswers: true, EngineAnswers: true},
	}
	s.start = func(context.Context, io.Writer) (child, Command, error) {
		return newFakeProcess(process.Exit{}), Command{Endpoint: Endpoint{Network: "fake"}}, nil
	}
}

// crashes makes a server's processes live until they are stopped, or until end ends
// the present one with an exit.
func crashes(s *Server, exit process.Exit) (end func()) {
	var last atomic.Pointer[fakeProcess]
	s.start = func(context.Context, io.Writer) (child, Command, error) {
		p := newFakeProcess(exit)
		last.Store(p)
		return p, Command{Endpoint: Endpoint{Network: "fake"}}, nil
	}
	return func() { last.Load().end() }
}

// failsFast makes a server's processes end as soon as they are started.
func failsFast(s *Server, exit process.Exit, class Class) (starts *atomic.Int64) {
	starts = new(atomic.Int64)
	s.engine = fakeEngine{loaded: func() error { return errors.New("refused") }, diagnosis: Diagnosis{Class: class}}
	s.start = func(_ context.Context, out io.Writer) (child, Command, error) {
		starts.Add(1)
		_, _ = out.Write([]byte("error: out of luck\n"))
		p := newFakeProcess(exit)
		p.end()
		return p, Command{}, nil
	}
	return starts
}

// runServer calls Run until stop is called.
func runServer(t *testing.T, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	return func() { cancel(); <-done }
}

// inVirtualTime runs a server of newServer's in virtual time.
func inVirtualTime(t *testing.T, spec Spec, body func(s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, spec)
		defer runServer(t, s)()
		body(s)
	})
}

// busy is the traffic of a server with calls that never end, and which answers them.
func busy() Traffic { return Traffic{Calls: 1, Bytes: time.Now().UnixNano()} }

// wantState checks the state, and that the reason contains a text; "" = there is none.
func wantState(t *testing.T, s *Server, state State, reason string) *Snapshot {
	t.Helper()
	now := s.Snapshot()
	if now.State != state || !strings.Contains(now.Reason, reason) || reason == "" && now.Reason != "" {
		t.Errorf("it is %s: %q; want %s with %q", now.State, now.Reason, state, reason)
	}
	return now
}

// fakeGPU is a GPU that answers as a test wants.
type fakeGPU struct {
	devices            string
	unreclaimed, admit func() string
}

func (g fakeGPU) Devices() string              { return g.devices }
func (g fakeGPU) UnreclaimedVRAM() string      { return message(g.unreclaimed) }
func (g fakeGPU) Admit(context.Context) string { return message(g.admit) }

func message(f func() string) string {
	if f == nil {
		return ""
	}
	return f()
}
