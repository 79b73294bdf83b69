package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// hangs is the problem of a driver that does.
const hangs = "the NVIDIA driver has not answered for 5s"

func TestPublishesEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{})
		s := r.want(0, "", cards())
		if s.Driver != "550.54.14" || s.CUDA != "12.4" {
			t.Errorf("driver %q, CUDA %q", s.Driver, s.CUDA)
		}
		for second := range 100 {
			if at := r.began.Add(time.Duration(second) * time.Second); !s.At.Equal(at) {
				t.Fatalf("sample %d was at %s, want %s", second, s.At, at)
			}
			old := s
			<-old.Changed
			if s = r.Sample(); s == old || s.Changed == old.Changed {
				t.Fatal("the sample has changed, and is the old one")
			}
		}
		r.wantLog(0, "")
	})
}

func TestRequestSample(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{})
		s := r.after(300 * time.Millisecond)
		r.RequestSample()
		r.RequestSample() // does not block
		<-s.Changed
		if at := r.Sample().At.Sub(r.began); at != 300*time.Millisecond {
			t.Errorf("the next sample was at %s, want 300 ms", at)
		}
		if at := r.after(time.Second).At.Sub(r.began); at != time.Second {
			t.Errorf("the one after it was at %s, want 1 s", at)
		}
	})
}

// TestSlowReading: a sample is of the time when its reading began. What happens while the driver
// is read may not be in it.
func TestSlowReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{reads: func() ([]GPU, bool, error) {
			time.Sleep(400 * time.Millisecond)
			return cards(), false, nil
		}})
		if s := r.after(399 * time.Millisecond); !s.At.IsZero() {
			t.Errorf("a sample of %s before the first reading has ended", s.At)
		}
		for second := range 3 {
			began := time.Duration(second) * time.Second
			if at := r.after(began + 500*time.Millisecond).At.Sub(r.began); at != began {
				t.Errorf("the sample of a reading that began after %s is of %s", began, at)
			}
		}
	})
}

// TestHangs blocks each call in turn.
func TestHangs(t *testing.T) {
	for _, call := range []string{"open", "read", "close"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: make(chan struct{})}
				fresh := true
				pass := func(name string) {
					if name == call {
						g.wait()
					}
				}
				d := fakeDriver{
					opens: func() (versions, error) { pass("open"); return versions{driver: "550.54.14"}, nil },
					reads: func() ([]GPU, bool, error) {
						pass("read")
						if call != "read" && !fresh {
							return cards(), true, nil // so that the session is reopened
						}
						fresh = false
						return cards(), false, nil
					},
					closes: func() { pass("close") },
				}
				r := startMonitor(t, d)
				before := r.want(0, "", cards())
				r.want(time.Second, "", cards())
				g.shut = true
				r.after(2 * time.Second) // in which the call begins
				calls := g.calls
				if s := r.after(6900 * time.Millisecond); s.Problem != "" {
					t.Errorf("after 4.9 s there is a problem: %s", s.Problem)
				}
				blank := []GPU{cards()[0].blank(), cards()[1].blank()}
				s := r.want(7*time.Second, hangs, blank)
				if s.Driver != before.Driver {
					t.Errorf("driver %q, want %q", s.Driver, before.Driver)
				}
				r.wantLog(1, hangs)
				r.want(10*time.Minute, hangs, blank)
				r.wantLog(1, hangs)
				if g.calls != calls {
					t.Errorf("the call that hangs was made %d times more", g.calls-calls)
				}
				g.shut = false
				close(g.open)
				<-s.Changed
				r.want(10*time.Minute, "", cards())
				r.wantLog(2, "the GPUs can be read again")
				r.want(10*time.Minute+2*time.Second, "", cards())
			})
		})
	}
}

// TestHangsAtFirst checks the sample of a driver that hangs from the start.
func TestHangsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		d := fakeDriver{opens: func() (versions, error) { <-release; return versions{}, errors.New("out of luck") }}
		r := startMonitor(t, d)
		if s := r.after(4 * time.Second); !s.At.IsZero() {
			t.Errorf("sample %+v, want none", s)
		}
		s := r.want(5*time.Second, hangs, nil)
		close(release)
		<-s.Changed
		r.want(5*time.Second, "out of luck", nil)
		r.wantLog(2, "out of luck")
	})
}

func TestEndsWhileItHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		closed := 0
		d := fakeDriver{reads: func() ([]GPU, bool, error) { <-release; return cards(), false, nil }, closes: func() { closed++ }}
		r := startMonitor(t, d)
		r.after(30 * time.Second)
		r.stop()
		<-r.ended
		if took := time.Since(r.began) - 30*time.Second; took != closeGrace {
			t.Errorf("it took %s to end, want %s", took, closeGrace)
		}
		close(release) // the goroutine that was left behind ends
		synctest.Wait()
		if closed != 1 {
			t.Errorf("the session was closed %d times, want once", closed)
		}
	})
}

func TestEndsAtOnce(t *testing.T) {
	closed := 0
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{closes: func() { closed++ }})
		r.after(1500 * time.Millisecond)
		r.stop()
		<-r.ended
		if took := time.Since(r.began); took != 1500*time.Millisecond || closed != 1 {
			t.Errorf("it ended after %s with %d sessions closed, want 1.5 s and one", took, closed)
		}
	})
}

func TestOpensAgainWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var opens []int // seconds
		failing, closed := true, 0
		d := fakeDriver{
			opens: func() (versions, error) {
				opens = append(opens, int(time.Since(began).Seconds()))
				if failing {
					return versions{}, errors.New("the NVIDIA driver is not loaded")
				}
				return versions{driver: "1"}, nil
			},
			closes: func() { closed++ },
		}
		r := startMonitor(t, d)
		for second := range 62 {
			s := r.want(time.Duration(second)*time.Second, "the NVIDIA driver is not loaded", nil)
			if at := s.At.Sub(r.began); at != time.Duration(second)*time.Second {
				t.Errorf("the sample of second %d is of %s", second, at)
			}
		}
		want := []int{0, 1, 3, 7, 15, 30, 45, 60}
		if !slices.Equal(opens, want) {
			t.Errorf("opened at %v, want %v", opens, want)
		}
		r.wantLog(1, `"level":"warn","message":"no GPU is read: the NVIDIA driver is not loaded"`)
		failing = false
		r.want(74*time.Second, "the NVIDIA driver is not loaded", nil)
		r.want(75*time.Second, "", cards())
		r.wantLog(2, "can be read again")
		if closed != 0 {
			t.Errorf("%d sessions were closed, and none had been opened", closed)
		}
	})
}

func TestNoDriverIsNoWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fakeDriver{opens: func() (versions, error) { return versions{}, absentError("not installed") }}
		r := startMonitor(t, d)
		r.want(time.Hour, "not installed", nil)
		r.wantLog(1, `"level":"info"`)
	})
}

// TestDriverIsReloaded checks a driver that fails to read, and then to open for a while.
func TestDriverIsReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var readErr, openErr error
		opened, closed := 0, 0
		d := fakeDriver{
			opens: func() (versions, error) {
				opened++
				return versions{driver: fmt.Sprint(opened)}, openErr
			},
			reads:  func() ([]GPU, bool, error) { return cards(), readErr != nil, readErr },
			closes: func() { closed++ },
		}
		r := startMonitor(t, d)
		blank := []GPU{cards()[0].blank(), cards()[1].blank()}
		r.want(0, "", cards())
		readErr, openErr = errors.New("no answer"), errors.New("not loaded")
		r.want(time.Second, "no answer", blank)
		if closed != 1 {
			t.Errorf("%d sessions were closed, want one", closed)
		}
		r.want(2*time.Second, "not loaded", blank)
		r.want(3*time.Second, "not loaded", blank)
		r.wantLog(2, "not loaded")
		readErr, openErr = nil, nil
		if s := r.want(4*time.Second, "", cards()); s.Driver != "3" {
			t.Errorf("driver %q, want the one of the new session", s.Driver)
		}
		r.wantLog(3, "can be read again")
		readErr = errors.New("no answer") // the first pause is a second again
		r.want(5*time.Second, "no answer", blank)
		readErr = nil
		r.want(6*time.Second, "", cards())
	})
}

// TestLost checks each way in which drivers show a lost GPU.
func TestLost(t *testing.T) {
	cases := map[string]struct {
		now   []GPU // in the session in which it is lost
		later []GPU // in later sessions
		stale bool  // these sessions report that it is missing
	}{
		"reply to be lost":          {lostCards(1), lostCards(1), true},
		"at its place without name": {lostCards(1), []GPU{cards()[0], {Index: 1, Lost: true}}, true},
		"missing":                   {lostCards(1), cards()[:1], false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var opens []int // seconds
				began, isLost := time.Now(), false
				d := fakeDriver{
					opens: func() (versions, error) {
						opens = append(opens, int(time.Since(began).Seconds()))
						return versions{}, nil
					},
					reads: func() ([]GPU, bool, error) {
						gpus, stale := cards(), false
						switch {
						case !isLost:
						case len(opens) == 1:
							gpus, stale = slices.Clone(c.now), true
						default:
							gpus, stale = slices.Clone(c.later), c.stale
						}
						gpus[0].Temperature = new(int(time.Since(began).Seconds())) // the other GPU is still read
						return gpus, stale, nil
					},
				}
				r := startMonitor(t, d)
				r.after(0)
				isLost = true
				at := func(second int, lost bool) {
					t.Helper()
					gpus := cards()
					if lost {
						gpus = lostCards(1)
					}
					gpus[0].Temperature = new(second)
					r.want(time.Duration(second)*time.Second, "", gpus)
				}
				for second := 1; second <= 50; second++ {
					at(second, true)
				}
				want := []int{0, 2, 4, 8, 16, 31, 46}
				if !slices.Equal(opens, want) {
					t.Errorf("opened at %v, want %v", opens, want)
				}
				at(60, true)
				c.later, c.stale = cards(), false
				at(61, false)
				opened := len(opens)
				at(100, false)
				if len(opens) > opened+1 {
					t.Errorf("%d sessions more were opened after it was found", len(opens)-opened)
				}
			})
		})
	}
}

// TestLostAndHung checks that a GPU stays lost while the driver hangs.
func TestLostAndHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		d := fakeDriver{reads: func() ([]GPU, bool, error) { g.wait(); return lostCards(0), true, nil }}
		r := startMonitor(t, d)
		r.want(0, "", lostCards(0))
		g.shut = true
		blank := lostCards(0)
		blank[1] = blank[1].blank()
		s := r.want(10*time.Second, hangs, blank)
		close(g.open)
		<-s.Changed
		r.want(10*time.Second, "", lostCards(0))
	})
}

// TestWithLost checks how GPUs that were known before are matched.
func TestWithLost(t *testing.T) {
	nameless := func(index int, lost bool) GPU { return GPU{Index: index, Lost: lost} }
	moved := cards()[1]
	moved.Index = 0
	cases := map[string]struct {
		known, now, want []GPU
	}{
		"nothing known":            {nil, cards(), cards()},
		"all there":                {cards(), cards(), cards()},
		"another one":              {cards()[:1], cards(), cards()},
		"one is not counted":       {cards(), cards()[:1], lostCards(1)},
		"the first is not counted": {cards(), []GPU{moved}, []GPU{moved, lostCards(0)[0]}},
		"one has no name":          {cards(), []GPU{cards()[0], nameless(1, true)}, lostCards(1)},
		"none is there":            {cards(), nil, []GPU{lostCards(0)[0], lostCards(1)[1]}},
		"one never had a name":     {[]GPU{cards()[0], nameless(1, false)}, []GPU{cards()[0], nameless(1, true)}, []GPU{cards()[0], nameless(1, true)}},
		"one gets a name":          {[]GPU{cards()[0], nameless(1, false)}, cards(), cards()},
		"both get a name":          {[]GPU{nameless(0, false), nameless(1, false)}, cards(), cards()},
		"one without a UUID":       {cards(), []GPU{cards()[0], nameless(1, false)}, []GPU{cards()[0], cards()[1].blank()}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMonitor(nil, zerolog.Nop())
			for _, g := range c.known {
				m.known = append(m.known, g.blank())
			}
			now := slices.Clone(c.now)
			got := m.withLost(c.now)
			if !reflect.DeepEqual(got, c.want) && len(got)+len(c.want) > 0 {
				t.Errorf("GPUs %+v, want %+v", got, c.want)
			}
			if !reflect.DeepEqual(c.now, now) {
				t.Errorf("what was read has become %+v", c.now)
			}
		})
	}
}

// TestReaders checks that concurrent readers see complete samples.
func TestReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{})
		for range 10 {
			go func() {
				for r.Sample().At.Before(r.began.Add(time.Minute)) {
					s := r.Sample()
					for _, g := range s.GPUs {
						fmt.Fprint(io.Discard, g.UUID, *g.Temperature, g.Processes)
					}
					<-s.Changed
				}
			}()
		}
		r.after(61 * time.Second)
	})
}

func TestNull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m := NewNull()
		before := m.Sample()
		ended := make(chan struct{})
		go func() { defer close(ended); m.Run(ctx) }()
		<-before.Changed
		if s := m.Sample(); s.At.IsZero() || s.Problem != "" || len(s.GPUs) > 0 || s.Driver != "" {
			t.Errorf("sample %+v, want one of nothing", s)
		}
		m.RequestSample()
		m.RequestSample()
		cancel()
		<-ended
	})
}

// TestSuspend checks that the driver is closed during a suspension and reopened at once
// after it. An absent driver is still reported as absent.
func TestSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened, closed := 0, 0
		r := startMonitor(t, fakeDriver{
			opens:  func() (versions, error) { opened++; return versions{}, nil },
			closes: func() { closed++ },
		})
		r.want(0, "", cards())
		r.Suspend(true)
		s := r.after(time.Second)
		if s.Problem != errSuspended.Error() || !s.Suspended || len(s.GPUs) != 2 || s.GPUs[0].Temperature != nil {
			t.Errorf("%+v", s)
		}
		if synchronize(); opened != 1 || closed != 1 {
			t.Errorf("opened %d times, closed %d times", opened, closed)
		}
		r.Suspend(true)
		r.after(time.Hour)
		r.Suspend(false)
		r.want(time.Hour+time.Second, "", cards())
		if synchronize(); opened != 2 || closed != 1 {
			t.Errorf("opened %d times, closed %d times", opened, closed)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, fakeDriver{opens: func() (versions, error) { return versions{}, absentError("no driver") }})
		r.want(0, "no driver", nil)
		r.Suspend(true)
		r.want(time.Minute, "no driver", nil)
	})
}
