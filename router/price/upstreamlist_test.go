package price

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const base = "https://u.example/v1"

// fakeUpstream is an upstream's /models.
type fakeUpstream struct {
	answer string
	err    error
	asked  []time.Time
}

func (s *fakeUpstream) fetch(context.Context) ([]byte, error) {
	s.asked = append(s.asked, time.Now())
	return []byte(s.answer), s.err
}

func open(t *testing.T, path string, s *fakeUpstream) *UpstreamList {
	t.Helper()
	l, err := OpenUpstreamList(path, base, s.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestListIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	l := open(t, path, &fakeUpstream{answer: listing})
	if table, at := l.Table(); table != nil || !at.IsZero() {
		t.Errorf("before the first fetch there is %v of %s", table, at)
	}
	if err := l.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*fakeUpstream{"no network": {err: errors.New("no network")}, "nonsense": {answer: "<html>"}, "empty": {answer: `{"data":[]}`}} {
		again := open(t, path, s)
		if err := again.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), base) {
			t.Errorf("%s: error %v", name, err)
		}
		table, at := again.Table()
		if listed := again.Listed(); len(listed) != 12 || listed[0].Context != 128000 {
			t.Errorf("%s: models %+v", name, listed)
		}
		if cost, known := NewPriceList(nil, table, nil).Cost("openai/gpt-4o", Tokens{Prompt: 10, Cached: 10}); !known || cost.String() != "0.0000125" || time.Since(at) > time.Minute {
			t.Errorf("%s: it costs %s, %t, as of %s", name, cost, known, at)
		}
	}
	if other, err := OpenUpstreamList(path, "https://other.example", nil); err != nil || other.now.Load().Models != nil {
		t.Errorf("another upstream gets these prices too: %v", err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 1 {
		t.Errorf("left behind: %q", files)
	}
	if err := os.WriteFile(path, []byte(`{"from": "`+base+`", "models": {"m": {"prompt": "-`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := OpenUpstreamList(path, base, (&fakeUpstream{answer: listing}).fetch)
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file gives error %v", err)
	}
	if err := l.Refresh(t.Context()); err != nil {
		t.Errorf("after a damaged file: %v", err)
	}
	open(t, path, &fakeUpstream{})
}

// TestListWithoutPrices: an upstream that lists no prices still lists its models.
func TestListWithoutPrices(t *testing.T) {
	s := &fakeUpstream{answer: `{"data":[{"id":"a/b"},{"id":"c"}]}`}
	l := open(t, filepath.Join(t.TempDir(), "prices.json"), s)
	if err := l.Refresh(t.Context()); !errors.Is(err, ErrNoPrices) {
		t.Errorf("error %v", err)
	}
	if listed := l.Listed(); len(listed) != 2 || listed[0].ID != "a/b" {
		t.Errorf("models %+v", listed)
	}
}

// TestListOfAnOlderVersion: a kept list without names is fetched again at once.
func TestListOfAnOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(path, []byte(`{"from":"`+base+`","at":"`+time.Now().UTC().Format(time.RFC3339)+`","models":{"m":{"prompt":"1","completion":"1"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fetched := make(chan error, 1)
	l := open(t, path, &fakeUpstream{answer: listing})
	done := make(chan struct{})
	go func() { defer close(done); l.KeepFresh(ctx, func(err error) { fetched <- err }) }()
	if err := <-fetched; err != nil || len(l.Listed()) != 12 {
		t.Errorf("%v, models %+v", err, l.Listed())
	}
	cancel()
	<-done
}

func TestListWithoutAFolder(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "gone", "prices.json"), &fakeUpstream{answer: listing})
	if err := l.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "save the prices in") {
		t.Errorf("error %v", err)
	}
	if table, _ := l.Table(); len(table) == 0 {
		t.Error("what was fetched is not used")
	}
}

func TestListIsFetchedDaily(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := &fakeUpstream{err: errors.New("no network")}
		l := open(t, path, s)
		ctx, cancel := context.WithCancel(t.Context())
		var reported []error
		go l.KeepFresh(ctx, func(err error) {
			if reported = append(reported, err); len(reported) == 9 {
				s.answer, s.err = listing, nil
			}
		})
		time.Sleep(80 * time.Hour)
		synctest.Wait()
		cancel()
		synctest.Wait()
		var minutes []int
		for _, at := range s.asked {
			minutes = append(minutes, int(at.Sub(start).Minutes()))
		}
		want := []int{0, 0, 0, 1, 2, 5, 10, 21, 42, 85, 85 + 24*60, 85 + 48*60, 85 + 72*60}
		if len(minutes) != len(want) || len(reported) != len(want) {
			t.Fatalf("asked at minutes %v, reported %d times; want %v", minutes, len(reported), want)
		}
		for i, err := range reported {
			if minutes[i] != want[i] || (err == nil) != (i >= 9) {
				t.Errorf("fetch %d at minute %d reported %v; want minute %d", i, minutes[i], err, want[i])
			}
		}

		s.asked = nil
		ctx, cancel = context.WithCancel(t.Context())
		go open(t, path, s).KeepFresh(ctx, func(error) {})
		synctest.Wait()
		if len(s.asked) != 0 {
			t.Error("a list of eight hours ago is fetched again at the start")
		}
		cancel()
		synctest.Wait()
	})
}

// A clock that was set back must not keep a list for ever.
func TestListOfTomorrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prices.json")
	later := &savedList{From: base, At: time.Now().Add(1000 * time.Hour), Models: Table{"m": {}}, List: []models.Listed{{ID: "m"}}}
	if err := later.write(path); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &fakeUpstream{answer: listing}
		ctx, cancel := context.WithCancel(t.Context())
		go open(t, path, s).KeepFresh(ctx, func(error) {})
		synctest.Wait()
		if len(s.asked) != 1 {
			t.Errorf("asked %d times", len(s.asked))
		}
		cancel()
		synctest.Wait()
	})
}
