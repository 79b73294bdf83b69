package downloads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/hub"
)

// simulated is a hub from which each model of 100 bytes takes 100 s.
type simulated struct {
	*Manager
	ctx context.Context //nolint:containedctx // that of the test, which synctest owns
	dir string

	mu      sync.Mutex
	fails   int   // how many of the next downloads fail
	err     error // why; nil = no network
	begun   []string
	stopped []string // those that were cancelled, with how far they were
	parts   map[string]int64
	arrived []string
	active  map[string]int
}

// withHub runs a test in virtual time.
func withHub(t *testing.T, test func(*simulated)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &simulated{dir: dir, parts: map[string]int64{}, active: map[string]int{}}
		s.Manager = New(ctx, Options{Dir: dir, Log: zerolog.Nop(), Fetch: s.fetch, Arrived: func(ref string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.arrived = append(s.arrived, ref)
		}})
		s.ctx = ctx
		test(s)
		cancel()
		s.Wait()
	})
}

func (s *simulated) fetch(ctx context.Context, ref string, report func(hub.Progress)) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = append(s.begun, ref)
	if s.active[ref]++; s.active[ref] > 1 {
		panic(ref + " is downloaded twice at once")
	}
	defer func() { s.active[ref]-- }()
	if s.fails > 0 {
		s.fails--
		return "", cmp.Or(s.err, errors.New("no network"))
	}
	for ; s.parts[ref] < 100; s.parts[ref]++ {
		report(hub.Progress{Done: s.parts[ref], Total: 100, Phase: hub.Downloading})
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			s.stopped = append(s.stopped, fmt.Sprint(ref, " ", s.parts[ref]))
			return "", ctx.Err()
		}
	}
	path := filepath.Join(s.dir, "org", strings.TrimPrefix(ref, "hf:")+".gguf")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte("GGUF"), 0o600)
}

func (s *simulated) want(t *testing.T, what string, got *[]string, want ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sorted := slices.Sorted(slices.Values(*got)); !slices.Equal(sorted, want) { // they are at once
		t.Errorf("%s %q, want %q", what, sorted, want)
	}
}

func (s *simulated) wantReason(t *testing.T, ref, want string) {
	t.Helper()
	s.State(ref)
	synctest.Wait()
	if got := s.State(ref).Reason(); got != want {
		t.Errorf("%s: %q, want %q", ref, got, want)
	}
}

// TestNeed: what several servers need is downloaded once, with its progress, and is then found
// without the hub.
func TestNeed(t *testing.T) {
	withHub(t, func(s *simulated) {
		s.wantReason(t, "hf:a", "downloading 0 % of 100 B") // a server asks before Need
		s.Need([]string{"hf:a", "hf:a", "hf:b"})
		time.Sleep(40 * time.Second)
		s.wantReason(t, "hf:a", "downloading 40 % of 100 B, 1 B/s, 1 min left")
		time.Sleep(10 * time.Second)
		s.wantReason(t, "hf:b", "downloading 50 % of 100 B, 1 B/s, 50 s left")
		if state, ok := s.Running("hf:b"); !ok || state.Done != 50 {
			t.Errorf("%+v %v", state, ok)
		}
		time.Sleep(time.Minute)
		s.want(t, "begun", &s.begun, "hf:a", "hf:b")
		s.want(t, "arrived", &s.arrived, "hf:a", "hf:b")
		state := s.State("hf:a")
		_, runs := s.Running("hf:a")
		if path, ok := Find(s.dir, "hf:a"); !ok || path != filepath.Join(s.dir, "org/a.gguf") || state.Path != path || runs {
			t.Errorf("%s, %+v, %v", path, state, runs)
		}
		s.Need([]string{"hf:a", "hf:b"}) // a reload: nothing is asked of the hub
		s.want(t, "begun", &s.begun, "hf:a", "hf:b")
		if err := os.Remove(state.Path); err != nil {
			t.Fatal(err)
		}
		s.parts = map[string]int64{}
		s.wantReason(t, "hf:a", "downloading 0 % of 100 B") // it was removed by hand
	})
}

// TestFailure: a download that fails is tried again after a growing pause, and at once after a
// reload.
func TestFailure(t *testing.T) {
	withHub(t, func(s *simulated) {
		s.fails = 4
		s.Need([]string{"hf:a", "hf:a"}) // two servers
		s.wantReason(t, "hf:a", "its model cannot be downloaded: no network; next try in 5s")
		time.Sleep(14 * time.Second)
		s.wantReason(t, "hf:a", "its model cannot be downloaded: no network; next try in 1s")
		time.Sleep(2 * time.Second)
		s.want(t, "begun", &s.begun, "hf:a", "hf:a", "hf:a")
		s.wantReason(t, "hf:a", "its model cannot be downloaded: no network; next try in 19s")
		s.Need([]string{"hf:a"})
		s.want(t, "begun", &s.begun, "hf:a", "hf:a", "hf:a", "hf:a")
		time.Sleep(2*time.Minute + time.Millisecond)
		s.wantReason(t, "hf:a", "downloading 80 % of 100 B, 1 B/s, 20 s left")
	})
}

// TestDamaged: a model that arrives damaged is not downloaded again at once, unless an operator asks
// for that.
func TestDamaged(t *testing.T) {
	withHub(t, func(s *simulated) {
		s.fails, s.err = 2, fmt.Errorf("%w: a.gguf", hub.ErrDamaged)
		s.Need([]string{"hf:a"})
		s.wantReason(t, "hf:a", "its model cannot be downloaded: the file is damaged: a.gguf; next try in 6h0m0s")
		time.Sleep(5 * time.Hour)
		s.want(t, "begun", &s.begun, "hf:a")
		s.Need([]string{"hf:a"}) // a reload
		s.want(t, "begun", &s.begun, "hf:a", "hf:a")
	})
}

// TestLimited: a hub that asks to wait is asked again when it says so, after six hours at the latest, and
// not before the usual pause.
func TestLimited(t *testing.T) {
	for asked, want := range map[time.Duration]string{time.Hour: "1h0m0s", 48 * time.Hour: "6h0m0s", time.Second: "5s"} {
		withHub(t, func(s *simulated) {
			s.fails, s.err = 1, fmt.Errorf("it is busy: %w", &hub.LimitedError{Until: time.Now().Add(asked)})
			s.Need([]string{"hf:a"})
			s.wantReason(t, "hf:a", "its model cannot be downloaded: it is busy: ; next try in "+want)
			time.Sleep(6*time.Hour + 2*time.Minute)
			s.want(t, "arrived", &s.arrived, "hf:a")
		})
	}
}

// TestAdvanced: a download advances when there are more bytes than ever before, not when it is tried
// again.
func TestAdvanced(t *testing.T) {
	m, d := New(t.Context(), Options{}), &download{}
	for i, step := range []struct {
		done     int64
		phase    hub.Phase
		advances bool
	}{{50, hub.Downloading, true}, {0, hub.Downloading, false}, {50, hub.Downloading, false}, {51, hub.Downloading, true}, {0, hub.Verifying, true}, {51, hub.Downloading, false}} {
		d.state.Advanced = time.Time{}
		if m.report(d, hub.Progress{Done: step.done, Total: 100, Phase: step.phase}); d.state.Advanced.IsZero() == step.advances {
			t.Errorf("step %d: %s", i, d.state.Advanced)
		}
	}
	withHub(t, func(s *simulated) {
		s.fails = 3
		s.Need([]string{"hf:a"})
		time.Sleep(30 * time.Second) // failures after 0, 5 and 15 s
		synctest.Wait()
		if idle := time.Since(s.State("hf:a").Advanced); idle != 30*time.Second {
			t.Errorf("idle for %s", idle)
		}
		time.Sleep(30*time.Second + time.Millisecond) // bytes arrive at whole seconds
		if idle := time.Since(s.State("hf:a").Advanced); idle >= time.Second {
			t.Errorf("idle for %s", idle)
		}
	})
}

// TestStop: a model that is no longer needed is not downloaded any further, and a later need
// continues, never beside the download that ends.
func TestStop(t *testing.T) {
	withHub(t, func(s *simulated) {
		s.Need([]string{"hf:a", "hf:b"})
		time.Sleep(10*time.Second + time.Millisecond)
		s.Need([]string{"hf:b"})
		s.Need([]string{"hf:a", "hf:b"})
		s.want(t, "stopped", &s.stopped, "hf:a 10")
		s.wantReason(t, "hf:a", "downloading 10 % of 100 B")
		s.Need(nil)
		s.Need(nil)
		s.want(t, "stopped", &s.stopped, "hf:a 10", "hf:a 10", "hf:b 10")
		if state, runs := s.Running("hf:b"); runs {
			t.Errorf("%+v", state)
		}
	})
}

// TestByHand: an operator's download goes on without a server, until it is cancelled; that of a
// server is not.
func TestByHand(t *testing.T) {
	withHub(t, func(s *simulated) {
		s.Need([]string{"hf:b"})
		for _, ref := range []string{"hf:a", "hf:b", "hf:c"} {
			if err := s.Start(ref); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(10*time.Second + time.Millisecond)
		s.Need([]string{"hf:b"})
		for ref, want := range map[string]string{"hf:a": "", "hf:b": "is the model of a server", "hf:x": "hf:x is not being downloaded"} {
			if err := s.Cancel(ref); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("cancel %s: %v", ref, err)
			}
		}
		s.want(t, "stopped", &s.stopped, "hf:a 10")
		time.Sleep(2 * time.Minute)
		s.want(t, "arrived", &s.arrived, "hf:b", "hf:c")
		if err := s.Start("hf:c"); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Error(err)
		}
	})
}

// TestPull: an operator sees the progress and how the download ends; one that fails is not tried
// again.
func TestPull(t *testing.T) {
	for name, tc := range map[string]struct {
		ref   string
		fails int
		stop  bool
		want  []string // the last steps
		err   string
	}{
		"done":      {"hf:a/b", 0, false, []string{"pulled downloaded: DIR/org/a/b.gguf"}, ""},
		"failed":    {"hf:a/b", 1, false, []string{"failed no network"}, ""},
		"cancelled": {"hf:a/b", 0, true, []string{"cancelled cancelled; a later download continues it"}, ""},
		"no ref":    {"x", 0, false, nil, `"x" is not a reference to a model`},
		"a secret":  {"https://example.com/a.gguf?sig=SECRET", 0, false, nil, "the URL has a query"},
	} {
		t.Run(name, func(t *testing.T) {
			withHub(t, func(s *simulated) {
				s.fails = tc.fails
				if tc.stop {
					time.AfterFunc(5500*time.Millisecond, func() {
						if err := s.CancelPull(tc.ref); err != nil {
							t.Error(err)
						}
					})
				}
				var steps []string
				err := s.Pull(s.ctx, tc.ref, func(step control.Step) error {
					steps = append(steps, strings.ReplaceAll(step.Step+" "+step.Text, s.dir, "DIR"))
					return nil
				})
				// Which step is before the last one depends on which of two timers fires first.
				if progress := slices.ContainsFunc(steps, func(s string) bool {
					return strings.HasPrefix(s, "starting downloading ") && strings.Contains(s, " % of 100 B, 1 B/s, ")
				}); progress == (tc.fails > 0 || tc.err != "") {
					t.Errorf("progress: %t; %q", progress, steps)
				}
				if last := steps[max(len(steps)-len(tc.want), 0):]; !slices.Equal(last, tc.want) || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
					t.Errorf("%v\n%q\nwant %q", err, steps, tc.want)
				}
				time.Sleep(time.Hour)
				if len(s.begun) > 1 {
					t.Errorf("tried %d times", len(s.begun))
				}
			})
		})
	}
}

// TestReason: the texts that the other tests have not.
func TestReason(t *testing.T) {
	for want, s := range map[string]State{
		"its model is downloaded":                                     {Path: "/m.gguf"},
		"its model is about to be downloaded":                         {},
		"another llmsup downloads its model; waiting for that":        {Phase: hub.Waiting},
		"checking the SHA-256 of its model":                           {Phase: hub.Verifying, Done: 1, Total: 2},
		"downloading, 1.5 MB so far":                                  {Phase: hub.Downloading, Done: 1.5e6, Total: -1},
		"downloading 43 % of 9.0 GB, 41 MB/s, 2 min left":             {Phase: hub.Downloading, Done: 3.9e9, Total: 9e9, Rate: 41e6, Left: 124 * time.Second},
		"downloading 0 % of 9.0 GB, 500 kB/s, 5 h left":               {Phase: hub.Downloading, Total: 9e9, Rate: 5e5, Left: 5 * time.Hour},
		"downloading 99 % of 9.0 GB, 41 MB/s, 1 s left":               {Phase: hub.Downloading, Done: 8.99e9, Total: 9e9, Rate: 41e6, Left: time.Millisecond},
		"its model cannot be downloaded: it is gated; next try in 0s": {Problem: "it is gated"},
	} {
		if got := s.Reason(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
