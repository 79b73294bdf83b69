package maintenance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/supervisor"
)

// fakeProcess is a Process whose snapshots a test publishes.
type fakeProcess struct {
	mu       sync.Mutex
	now      *supervisor.Snapshot
	changed  chan struct{}
	commands []string
	drained  func() // is called by Drain; nil = nothing happens
	resumed  func() // is called by Resume
	verify   func(context.Context) error
}

func (p *fakeProcess) publish(s supervisor.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
	s.Changed = p.changed
	p.now = &s
}

func (p *fakeProcess) Snapshot() *supervisor.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *fakeProcess) called(command string, then func()) {
	p.mu.Lock()
	p.commands = append(p.commands, command)
	p.mu.Unlock()
	if then != nil {
		go then()
	}
}

func (p *fakeProcess) Drain(h supervisor.DrainOptions) {
	p.called(map[bool]string{false: "drain", true: "drain, keep"}[h.Keep], p.drained)
}
func (p *fakeProcess) Resume()                          { p.called("resume", p.resumed) }
func (p *fakeProcess) Restart()                         { p.called("restart", nil) }
func (p *fakeProcess) Verify(ctx context.Context) error { return p.verify(ctx) }

// fakeVRAM holds 4 GiB, of which so many reads find some that is not released.
type fakeVRAM struct {
	mu          sync.Mutex
	outstanding int
}

func (v *fakeVRAM) Held() (held, problem string) { return "4.0 GiB", "" }

func (v *fakeVRAM) UnreclaimedVRAM() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.outstanding == 0 {
		return ""
	}
	v.outstanding--
	return "1.0 GiB of 4.0 GiB are back"
}

// fakeServers is the servers chat and mail, each ready.
type fakeServers struct {
	servers  []Server
	process  map[string]*fakeProcess
	stranded func(drained []string) []string
	released bool
}

func (f *fakeServers) All() []Server { return f.servers }

func (f *fakeServers) Find(names []string) ([]Server, error) {
	if slices.Contains(names, "other") {
		return nil, errors.New("there is no server other")
	}
	return slices.DeleteFunc(slices.Clone(f.servers), func(s Server) bool { return len(names) > 0 && !slices.Contains(names, s.Name) }), nil
}

func (f *fakeServers) RoutesWithoutFallback(drained []string) []string { return f.stranded(drained) }
func (f *fakeServers) ReleaseDriver(release bool)                      { f.released = release }

// manage opens a Manager in the test's bubble, and stops it at the test's end.
func manage(t *testing.T, dir string) (*Manager, *fakeServers) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &fakeServers{process: map[string]*fakeProcess{}, stranded: func([]string) []string { return nil }}
	for i, name := range []string{"chat", "mail"} {
		p := &fakeProcess{verify: func(context.Context) error { return nil }}
		pid := 7 + i
		ready := supervisor.Snapshot{Name: name, State: supervisor.Ready, PID: pid}
		p.publish(ready)
		p.drained = func() {
			gone := make(chan struct{})
			p.publish(supervisor.Snapshot{State: supervisor.Draining, PID: pid, Exited: gone})
			time.Sleep(time.Second)
			close(gone)
			time.Sleep(time.Second)
			p.publish(supervisor.Snapshot{State: supervisor.Drained})
		}
		p.resumed = func() {
			p.publish(supervisor.Snapshot{State: supervisor.Starting})
			time.Sleep(time.Second)
			p.publish(supervisor.Snapshot{State: supervisor.Ready, PID: pid + 100})
		}
		f.process[name] = p
		f.servers = append(f.servers, Server{Name: name, Process: p, VRAM: &fakeVRAM{outstanding: 2}, Context: ctx, Load: func() Load { return Load{} }})
	}
	var lock sync.Mutex
	m := Open(ctx, Options{Servers: f, StateDir: dir, Log: zerolog.Nop(), Lock: &lock}, []string{"chat", "mail"})
	t.Cleanup(func() {
		m.Stop()
		cancel()
		m.Wait()
	})
	return m, f
}

// collect returns a function that notes steps, and one that returns them in a line each.
func collect() (emit func(control.Step) error, steps func() string) {
	var lines []string
	return func(s control.Step) error {
			lines = append(lines, strings.TrimPrefix(s.Server+" "+s.Step, " "))
			return nil
		}, func() string {
			all := lines
			lines = nil
			return strings.Join(all, ", ")
		}
}

// TestDrainAndResume: a server is drained, its VRAM is released, and it comes back with
// another process. The driver is released only while all servers are drained.
func TestDrainAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := manage(t, t.TempDir())
		emit, steps := collect()
		if err := m.Drain(t.Context(), control.DrainRequest{Servers: []string{"chat"}}, emit); err != nil {
			t.Fatal(err)
		}
		if got := steps(); got != "chat draining, chat stopping, chat stopped, chat vram, drained" {
			t.Error(got)
		}
		synctest.Wait()
		if _, drained := m.Record().Of("chat"); !drained || f.released {
			t.Errorf("drained: %t, the driver is released: %t", drained, f.released)
		}
		err := m.Drain(t.Context(), control.DrainRequest{}, emit)
		synctest.Wait()
		if err != nil || !f.released {
			t.Errorf("%v, the driver is released: %t", err, f.released)
		}
		steps()
		if err := m.Resume(t.Context(), []string{"chat"}, emit); err != nil {
			t.Fatal(err)
		}
		if got := steps(); got != "chat starting, chat ready, resumed" || f.released {
			t.Errorf("%s, the driver is released: %t", got, f.released)
		}
		if err := m.Resume(t.Context(), []string{"other"}, emit); err == nil {
			t.Error("an unknown server is resumed")
		}
	})
}

// TestKeptAndVerified: a process that stays has to answer a test call.
func TestKeptAndVerified(t *testing.T) {
	for name, failure := range map[string]error{"it answers": nil, "it does not": errors.New("timeout")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, f := manage(t, t.TempDir())
				p := f.process["chat"]
				p.drained = func() { p.publish(supervisor.Snapshot{State: supervisor.Drained, PID: 7}) }
				p.resumed = func() { p.publish(supervisor.Snapshot{State: supervisor.Ready, PID: 7}) }
				p.verify = func(context.Context) error { return failure }
				emit, steps := collect()
				if err := m.Drain(t.Context(), control.DrainRequest{Servers: []string{"chat"}, KeepServer: true}, emit); err != nil {
					t.Fatal(err)
				}
				if got := steps(); got != "chat draining, chat kept, drained" || p.commands[0] != "drain, keep" {
					t.Error(got, p.commands)
				}
				if err := m.Resume(t.Context(), []string{"chat"}, emit); err != nil {
					t.Fatal(err)
				}
				want := "chat ready, resumed"
				if failure != nil {
					want = "chat failed, failed"
				}
				if got := strings.TrimPrefix(steps(), "chat starting, "); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		})
	}
}

// TestDrainEnds: a drain ends by itself, also after a restart of llmsup, and what was
// drained is remembered until then.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m, _ := manage(t, dir)
		emit, steps := collect()
		if err := m.Drain(t.Context(), control.DrainRequest{For: control.Duration(3 * time.Hour)}, emit); err != nil {
			t.Fatal(err)
		}
		m.Stop()
		time.Sleep(time.Hour)
		m, f := manage(t, dir)
		if record := m.Record(); len(record.Servers) != 2 {
			t.Fatalf("restored %+v", record)
		}
		m.opts.Lock.Lock()
		m.ServersChanged()
		m.opts.Lock.Unlock()
		time.Sleep(2*time.Hour - 5*time.Second)
		synctest.Wait()
		if m.Record().Empty() {
			t.Error("the drain has ended early")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if record := m.Record(); !record.Empty() || !slices.Equal(f.process["mail"].commands, []string{"resume"}) {
			t.Errorf("after its end: %+v, mail got %v", record, f.process["mail"].commands)
		}
		if got := steps(); !strings.HasSuffix(got, "drained") {
			t.Error(got)
		}
	})
}

// TestCancelled: each of the two commands ends the other one's operation.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := manage(t, t.TempDir())
		for _, p := range f.process {
			p.drained = nil // no request reaches its owner
			p.resumed = func() { p.publish(supervisor.Snapshot{State: supervisor.Starting}) }
		}
		run := func(command func(emit func(control.Step) error) error) (steps <-chan string) {
			done := make(chan string, 1)
			go func() {
				emit, steps := collect()
				if err := command(emit); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
				done <- steps()
			}()
			synctest.Wait()
			return done
		}
		drain := func(emit func(control.Step) error) error {
			return m.Drain(t.Context(), control.DrainRequest{}, emit)
		}
		drained := run(drain)
		f.process["chat"].publish(supervisor.Snapshot{State: supervisor.Loading, PID: 9})
		f.process["mail"].publish(supervisor.Snapshot{State: supervisor.Drained})
		synctest.Wait() // the drain may end before it has noted that
		resumed := run(func(emit func(control.Step) error) error { return m.Resume(t.Context(), []string{"mail"}, emit) })
		if got := <-drained; got != "mail draining, mail stopped, cancelled" {
			t.Errorf("the drain: %s", got)
		}
		run(drain)
		if got := <-resumed; got != "mail starting, cancelled" {
			t.Errorf("the resume: %s", got)
		}
	})
}

// TestRejected: commands that change nothing.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := manage(t, t.TempDir())
		emit, steps := collect()
		f.stranded = func(drained []string) []string { return drained }
		var stranded control.NoFallbackError
		err := m.Drain(t.Context(), control.DrainRequest{Servers: []string{"chat"}}, emit)
		if !errors.As(err, &stranded) || !slices.Equal(stranded.Routes, []string{"chat"}) {
			t.Error(err)
		}
		if err := m.Drain(t.Context(), control.DrainRequest{Servers: []string{"chat"}, Yes: true}, emit); err != nil || steps() == "" {
			t.Error(err)
		}
		for _, tc := range []struct {
			names           []string
			want            string
			started, passed string
		}{
			{[]string{"chat"}, "chat is drained; llmsup resume chat starts it", "[]", "[chat]"},
			{nil, "<nil>", "[mail]", "[chat]"},
		} {
			begun, err := m.Restart(tc.names)
			if fmt.Sprint(err) != tc.want || fmt.Sprint(begun.Servers) != tc.started || fmt.Sprint(begun.Drained) != tc.passed {
				t.Errorf("%v: %+v, %v", tc.names, begun, err)
			}
		}
		if got := f.process["mail"].commands; !slices.Equal(got, []string{"restart"}) {
			t.Error(got)
		}
		m.Stop()
		if err := m.Drain(t.Context(), control.DrainRequest{}, emit); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
		if err := m.Resume(t.Context(), nil, emit); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
		if _, err := m.Restart(nil); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
	})
}
