package fleet

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

const fleetKey = "0123456789abcdef0123456789abcdef"

// box is a box of a test.
type box struct {
	*Member
	mu      sync.Mutex
	state   Box
	changed chan struct{}
	log     *lines
	stop    func() // and waits
}

// lines is the log of a box.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// settings returns those of a box of the fleet.
func settings(t *testing.T, name string, urls ...string) Settings {
	t.Helper()
	return Settings{NATS: urls, Name: name, Advertise: "http://" + name + ":8000", KeyFile: keyFile(t, fleetKey)}
}

func keyFile(t *testing.T, key string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newBox returns a box that does not run yet.
func newBox(s Settings) *box {
	b := &box{changed: make(chan struct{}), log: &lines{}}
	b.state = Box{Version: "test", Models: []Model{{Name: "demo", State: "ready"}}}
	b.Member = New(Options{
		Settings: s, Log: zerolog.New(b.log),
		State: func() Box {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.state
		},
		Changes: func() []<-chan struct{} {
			b.mu.Lock()
			defer b.mu.Unlock()
			return []<-chan struct{}{b.changed}
		},
	})
	return b
}

func (b *box) run(t *testing.T) *box {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
	return b
}

func start(t *testing.T, s Settings) *box {
	t.Helper()
	return newBox(s).run(t)
}

// change changes what the box announces.
func (b *box) change(to func(*Box)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to(&b.state)
	close(b.changed)
	b.changed = make(chan struct{})
}

// patience is how long a test waits for what is expected within a second or two.
const patience = time.Minute

// await waits until the box's view is as it has to be.
func (b *box) await(t *testing.T, what string, is func(*View) bool) *View {
	t.Helper()
	late := time.After(patience)
	for {
		v := b.View()
		if is(v) {
			return v
		}
		select {
		case <-v.Changed:
		case <-late:
			t.Fatalf("%s: after %s not %s: joined %t, %q, boxes %v; its log:\n%s", v.Name, patience, what, v.Joined, v.Problem, names(v), b.log)
		}
	}
}

func names(v *View) (list []string) {
	for _, p := range v.Boxes {
		list = append(list, p.Name)
	}
	return list
}

// sees waits until the box is in the fleet and knows these others.
func (b *box) sees(t *testing.T, others ...string) {
	t.Helper()
	b.await(t, fmt.Sprintf("in a fleet with %v", others), func(v *View) bool { return v.Joined && slices.Equal(names(v), others) })
}

func TestBoxesSeeEachOther(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	a, b, c := start(t, settings(t, "a", nats.URL)), start(t, settings(t, "b", nats.URL)), start(t, settings(t, "c", nats.URL))
	a.sees(t, "b", "c")
	b.sees(t, "a", "c")
	c.sees(t, "a", "b")

	free, speed := 3, 41.5
	b.change(func(s *Box) {
		s.Models = []Model{{Name: "big", State: "loading", Free: &free, Queued: 2, TokensPerSecond: &speed}}
		s.GPUs = []GPU{{Index: 1, Health: "degraded"}}
	})
	v := a.await(t, "a sees b's model", func(v *View) bool { return len(v.Boxes) == 2 && v.Boxes[0].Models[0].Name == "big" })
	got := v.Boxes[0]
	if m := got.Models[0]; m.State != "loading" || *m.Free != 3 || m.Queued != 2 || *m.TokensPerSecond != speed || m.Slots != nil {
		t.Errorf("b's model is %+v", m)
	}
	if got.Address != "http://b:8000" || got.Version != "test" || got.GPUs[0] != (GPU{1, "degraded"}) {
		t.Errorf("b is %+v", got)
	}

	c.stop() // it leaves, and need not be found silent
	a.sees(t, "b")
	if gone := a.View().Absent; len(gone) != 1 || gone[0].Name != "c" || !gone[0].Leaving {
		t.Errorf("of c is known: %+v", gone)
	}
	again := start(t, settings(t, "c", nats.URL)) // and its name is free at once
	a.sees(t, "b", "c")
	if strings.Contains(again.log.String(), "has the name c") {
		t.Errorf("c was not in the fleet at once:\n%s", again.log)
	}
	if gone := a.View().Absent; len(gone) != 0 {
		t.Errorf("c is back, and missing: %+v", gone)
	}
}

// A change is announced at once, and not with the next announcement.
func TestChangeIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	a, b := start(t, settings(t, "a", nats.URL)), start(t, settings(t, "b", nats.URL))
	a.sees(t, "b")
	b.sees(t, "a")
	const changes = 20
	began := time.Now()
	for i := range changes {
		drained := i%2 == 0
		b.change(func(s *Box) { s.Drained = drained })
		a.await(t, "a sees the drain", func(v *View) bool { return len(v.Boxes) == 1 && v.Boxes[0].Drained == drained })
	}
	// Each change follows the one before at once, so that the next announcement would be a whole interval later.
	if took := time.Since(began); took > changes/2*AnnounceInterval {
		t.Errorf("%d changes were seen after %s", changes, took)
	}
}

func TestSilentBoxDropsOut(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a := start(t, settings(t, "a", server.URL))
	a.sees(t)
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	value, err := newSealer([]byte(fleetKey)).seal(&Box{Name: "killed", Instance: "1", Seq: 7, Address: "http://killed:8000"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := nc.Publish(subjects+"killed", value); err != nil {
		t.Fatal(err)
	}
	a.sees(t, "killed")
	stop, sent := make(chan struct{}), make(chan struct{})
	go func() { // the same announcement again is no sign of life
		defer close(sent)
		for {
			_ = nc.Publish(subjects+"killed", value)
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-sent }()
	a.sees(t)
	if took := time.Since(began); took < silence {
		t.Errorf("the silent box dropped out after %s", took)
	}
	if gone := a.View().Absent; len(gone) != 1 || gone[0].Name != "killed" || gone[0].Leaving {
		t.Errorf("of the silent box is known: %+v", gone)
	}
	if log := a.log.String(); !strings.Contains(log, "silent for 3s") {
		t.Errorf("the log has no line of it:\n%s", log)
	}
}

// probe probes until the result is as it has to be: a busy machine may delay the announcements
// beyond the time for which a probe listens.
func probe(t *testing.T, s Settings, what string, is func(*ProbeResult) bool) {
	t.Helper()
	for began := time.Now(); ; {
		r, err := Probe(t.Context(), s)
		if err == nil && is(r) {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("a probe never finds %s, but %+v, %v", what, r, err)
		}
	}
}

func TestNameTaken(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	first, other := start(t, settings(t, "gpu1", nats.URL)), start(t, settings(t, "gpu2", nats.URL))
	first.sees(t, "gpu2")
	twin := settings(t, "gpu1", nats.URL)
	twin.Advertise = "http://twin:8000"
	second := start(t, twin)
	v := second.await(t, "refused", func(v *View) bool { return strings.Contains(v.Problem, "has the name") })
	if v.Joined || !strings.Contains(v.Problem, "another box at http://gpu1:8000 has the name gpu1") || !strings.Contains(v.Problem, "fleet.name") {
		t.Errorf("the second box with a name is %+v", v)
	}
	probe(t, twin, "the box with its name", func(r *ProbeResult) bool { return r.Taken != nil && r.Taken.Address == "http://gpu1:8000" })
	third := settings(t, "gpu3", nats.URL)
	probe(t, third, "a free name", func(r *ProbeResult) bool {
		return r.Taken == nil && len(r.Boxes) == 2 && r.Boxes[0].Name == "gpu1" && r.Boxes[1].Name == "gpu2" && len(r.Foreign) == 0
	})
	third.KeyFile = keyFile(t, strings.Repeat("another-key", 4))
	probe(t, third, "boxes with another key", func(r *ProbeResult) bool {
		return len(r.Boxes) == 0 && slices.Equal(r.Foreign, []string{"gpu1", "gpu2"})
	})
	if v := other.View(); len(v.Boxes) != 1 || v.Boxes[0].Address != "http://gpu1:8000" {
		t.Errorf("the others see %+v", v.Boxes)
	}
	if log := second.log.String(); strings.Count(log, "has the name") != 1 {
		t.Errorf("its log, which should have that once:\n%s", log)
	}
	first.stop()
	second.sees(t, "gpu2") // the name is free
	other.await(t, "with the second box", func(v *View) bool { return len(v.Boxes) == 1 && v.Boxes[0].Address == "http://twin:8000" })
}

// A box that was killed and starts again gets its name once nothing is heard of the old one.
func TestNameOfKilledBox(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a := start(t, settings(t, "a", server.URL))
	a.sees(t)
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	value, err := newSealer([]byte(fleetKey)).seal(&Box{Name: "b", Instance: "killed", Seq: 7, Address: "http://b:8000"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), subjects+"b", value); err != nil {
		t.Fatal(err)
	}
	start(t, settings(t, "b", server.URL)).sees(t, "a")
	a.await(t, "with the new b", func(v *View) bool { return len(v.Boxes) == 1 && v.Boxes[0].Instance != "killed" })
}

func TestWithoutNATS(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	nats.Stop()
	a, b := start(t, settings(t, "a", nats.URL)), start(t, settings(t, "b", nats.URL))
	v := a.await(t, "alone", func(v *View) bool { return strings.HasPrefix(v.Problem, "connect to NATS") })
	if v.Joined || !strings.Contains(v.Problem, nats.URL) {
		t.Errorf("without NATS it is %+v", v)
	}
	for round := range 2 {
		nats.Restart(t) // without the bucket, which was in its memory
		a.sees(t, "b")
		b.sees(t, "a")
		nats.Stop()
		v = a.await(t, "alone again", func(v *View) bool { return !v.Joined })
		if !strings.Contains(v.Problem, "connection to NATS was lost") && !strings.Contains(v.Problem, "connect to NATS") {
			t.Errorf("round %d: %q", round, v.Problem)
		}
		a.await(t, "without b", func(v *View) bool { return len(v.Boxes) == 0 })
	}
	if n := strings.Count(a.log.String(), "continues alone: connect to NATS"); n > 3 {
		t.Errorf("the log says it %d times:\n%s", n, a.log)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	stranger, _ := nkeys.CreateUser()
	strangerSeed, _ := stranger.Seed()
	url := fleettest.Start(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }).URL
	for name, tc := range map[string]struct {
		seed    string
		problem string // "" = it joins
	}{
		"right": {string(seed), ""},
		"wrong": {string(strangerSeed), "check credentials_file"},
		"none":  {"", "check credentials_file"},
		"junk":  {"this is no seed", "is neither a .creds file nor the seed of an nkey"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(t, "box", url)
			if tc.seed != "" {
				s.CredentialsFile = keyFile(t, tc.seed)
			}
			b := start(t, s)
			joins := tc.problem == ""
			// On a busy machine, the first attempts may end without an answer.
			v := b.await(t, fmt.Sprintf("joined: %t, %q", joins, tc.problem), func(v *View) bool { return v.Joined == joins && strings.Contains(v.Problem, tc.problem) })
			if joined := strings.Contains(b.log.String(), "the box is in the fleet"); joined != joins {
				t.Errorf("it was in the fleet: %t; its log:\n%s", joined, b.log)
			}
			if tc.seed != "" && strings.Contains(v.Problem+b.log.String(), tc.seed) {
				t.Error("the seed is shown")
			}
			b.stop()
		})
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	s := fleettest.Start(t, func(o *server.Options) { o.JetStream = false })
	v := start(t, settings(t, "a", s.URL)).await(t, "refused", func(v *View) bool { return strings.Contains(v.Problem, "JetStream") })
	if v.Joined || !strings.Contains(v.Problem, "enable JetStream") {
		t.Errorf("it is %+v", v)
	}
}

// TestRejoinPause: a box that was in the fleet is back before it counts as silent, and one that
// cannot join does not try all the time.
func TestRejoinPause(t *testing.T) {
	t.Parallel()
	const joining = time.Second // to connect, on a busy machine
	for range 1000 {
		if pause := rejoinPause(time.Hour); AnnounceInterval+pause+joining > silence {
			t.Fatalf("a box that loses its connection is back after %s at the earliest", pause)
		}
		if pause := rejoinPause(0); pause < rejoinInterval || pause > 2*rejoinInterval {
			t.Fatalf("a box that cannot connect tries it again after %s", pause)
		}
	}
}

// The key's file may appear later.
func TestKeyFileMissing(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	s := settings(t, "a", nats.URL)
	if err := os.Remove(s.KeyFile); err != nil {
		t.Fatal(err)
	}
	a := start(t, s)
	a.await(t, "told what is missing", func(v *View) bool { return strings.Contains(v.Problem, s.KeyFile) && !v.Joined })
	if err := os.WriteFile(s.KeyFile, []byte(fleetKey), 0o600); err != nil {
		t.Fatal(err)
	}
	a.sees(t)
}

// What outsiders write has no effect: they have no key, but may write into the bucket.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a, b := start(t, settings(t, "a", server.URL)), start(t, settings(t, "b", server.URL))
	a.sees(t, "b")
	b.sees(t, "a")
	foreign := settings(t, "foreign", server.URL)
	foreign.KeyFile = keyFile(t, strings.Repeat("x", 40))
	c := start(t, foreign)
	c.sees(t) // it is in a fleet of its own
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sealed, err := newSealer([]byte(fleetKey)).seal(&Box{Name: "b", Instance: "thief", Seq: 1 << 60, Address: "http://evil:1"})
	if err != nil {
		t.Fatal(err)
	}
	ghost, err := newSealer([]byte(fleetKey)).seal(&Box{Name: "ghost", Instance: "old", Seq: 1, Address: "http://evil:1"})
	if err != nil {
		t.Fatal(err)
	}
	before := b.View().Changed
	values := map[string][]byte{
		"a": []byte("{}"), "b": nil, "rubbish": []byte("\x00\xff"), "long": make([]byte, 900_000), "c": []byte(sealVersion),
		"d": sealed, "f": ghost, // another box's, under another name
		"e": append(slices.Clone(sealed), ' '), // changed
	}
	published := uint64(0)
	publish := func() {
		t.Helper()
		for name, value := range values {
			if err := nc.Publish(subjects+name, value); err != nil {
				t.Fatal(err)
			}
			published++
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	seen, again := time.NewTimer(patience), time.NewTicker(silence/2) // what is sent once is soon forgotten
	defer again.Stop()
	for v := a.View(); v.Ignored < published || !slices.Contains(v.Foreign, "rubbish"); v = a.View() {
		for _, name := range names(v) {
			if name != "b" {
				t.Errorf("a sees %s", name)
			}
		}
		select {
		case <-v.Changed:
		case <-again.C:
			publish()
		case <-seen.C:
			t.Fatalf("after %s a has ignored %d of %d announcements, and sees boxes with another key: %v", patience, v.Ignored, published, v.Foreign)
		}
	}
	a.await(t, "a knows the box with another key, and forgets who is silent", func(v *View) bool { return slices.Equal(v.Foreign, []string{"foreign"}) })
	<-before
	a.sees(t, "b")
	b.sees(t, "a")
	if v := a.View(); v.Boxes[0].Address != "http://b:8000" {
		t.Errorf("b is at %s", v.Boxes[0].Address)
	}
	if strings.Contains(a.log.String(), fleetKey) {
		t.Error("the log has the key")
	}
}

// TestInvalidAnnouncement: a box of this fleet whose announcement cannot be read, as it may be of
// another version, is not taken for one with another key.
func TestInvalidAnnouncement(t *testing.T) {
	t.Parallel()
	key := secret(fleetKey)
	body := []byte(`{"name":"newer","models":"of another form"}`)
	s := newSealer(key)
	newer := append([]byte(sealVersion+hex.EncodeToString(s.code(body))+"\n"), body...)
	b := newBox(settings(t, "b", "nats://127.0.0.1:1"))
	b.receive(s, "newer", newer)
	b.receive(s, "long", make([]byte, maxValue+1))
	b.setLink(link{joined: true}) // makes a view
	if v := b.View(); v.Ignored != 2 || !slices.Equal(v.Foreign, []string{"long"}) {
		t.Errorf("%d announcements were ignored, and these boxes have another key: %q", v.Ignored, v.Foreign)
	}
	if log := b.log.String(); !strings.Contains(log, "another version of llmsup") || strings.Contains(log, "same key") {
		t.Errorf("the log is\n%s", log)
	}

	server := fleettest.Start(t)
	nc, broken, err := connect(t.Context(), settings(t, "b", server.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	outside, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	sent, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for tick := time.Tick(10 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick:
				_, _ = outside.Publish(subjects+"newer", newer), outside.Publish(subjects+"other", []byte("{}"))
			}
		}
	}()
	r, err := receiveAll(t.Context(), nc, broken, peers{self: "b", byName: map[string]Peer{}}, s)
	close(stop)
	<-sent
	if err != nil || !slices.Equal(r.Foreign, []string{"other"}) {
		t.Errorf("a probe finds that these boxes have another key: %+v, %v", r, err)
	}
}

// A box stays in the fleet when an outsider sends announcements of its earlier process again.
func TestAnnouncementsOfEarlierProcess(t *testing.T) {
	t.Parallel()
	server := fleettest.Start(t)
	a, b := start(t, settings(t, "a", server.URL)), start(t, settings(t, "b", server.URL))
	a.sees(t, "b")
	b.sees(t, "a")
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), bucketName)
	if err != nil {
		t.Fatal(err)
	}
	seal := newSealer([]byte(fleetKey))
	for seq := range uint64(3) {
		old, err := seal.seal(&Box{Name: "a", Instance: "earlier", Seq: seq + 1, Address: "http://a:8000"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "a", old); err != nil {
			t.Fatal(err)
		}
		for late := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if entry, err := kv.Get(t.Context(), "a"); err == nil {
				if held, err := seal.open(entry.Value()); err == nil && held.Instance == a.instance {
					break
				}
			}
			if time.Now().After(late) {
				t.Fatal("the bucket never has an announcement of the box again")
			}
		}
	}
	if strings.Contains(a.log.String(), "not in the fleet") || !a.View().Joined {
		t.Errorf("the box has left the fleet:\n%s", a.log)
	}
	b.sees(t, "a")
}

// The clocks of boxes may differ, and jump: nothing that a box announces has a time.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	early, late := newBox(settings(t, "early", nats.URL)), newBox(settings(t, "late", nats.URL))
	early.clock = func() time.Time { return time.Now().Add(-24 * time.Hour) }
	late.clock = func() time.Time { return time.Now().Add(24 * time.Hour) }
	early.run(t)
	late.run(t)
	early.sees(t, "late")
	late.sees(t, "early")
	late.stop()
	early.sees(t)
	if gone := early.View().Absent; len(gone) != 1 || !gone[0].Leaving {
		t.Errorf("of the box that has left is known: %+v", gone)
	}
}

// TestStopWhileJoining: a box that stops as soon as another one sees it has left, and is not found
// silent. The other one may see it before the box itself knows that it has joined.
func TestStopWhileJoining(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	watch := start(t, settings(t, "watch", nats.URL))
	watch.sees(t)
	late := 0
	for i := range 20 {
		name := fmt.Sprintf("box%d", i)
		b := start(t, settings(t, name, nats.URL))
		watch.sees(t, name)
		began := time.Now()
		b.stop()
		took := time.Since(began)
		watch.sees(t)
		switch silent := strings.Contains(watch.log.String(), fmt.Sprintf(`"box":%q,"message":"the box has been silent`, name)); {
		case silent && took < leaveTimeout:
			t.Errorf("%s stopped after %s, and was found silent:\n%s", name, took, watch.log)
		case silent: // a busy machine may be late with joining, which a box that leaves does not wait for
			late++
		}
	}
	if late > 10 {
		t.Errorf("%d of 20 boxes were found silent:\n%s", late, watch.log)
	}
}

// TestPause: a box that did not run for a while, and so heard nothing, takes no other one for
// silent, and drops those that were silent before.
func TestPause(t *testing.T) {
	t.Parallel()
	nats := fleettest.Start(t)
	paused, other, gone := newBox(settings(t, "paused", nats.URL)), start(t, settings(t, "other", nats.URL)), start(t, settings(t, "gone", nats.URL))
	var jump atomic.Int64
	paused.clock = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	paused.run(t)
	paused.sees(t, "gone", "other")
	gone.sees(t, "other", "paused") // else it may not know yet that it has joined, and leave without a word
	gone.stop()
	paused.sees(t, "other")
	before := paused.View().Boxes[0].Seq
	jump.Store(int64(time.Minute))
	paused.await(t, "two announcements after the pause", func(v *View) bool {
		if len(v.Boxes) != 1 {
			t.Errorf("after the pause the box knows %q", names(v))
		}
		return len(v.Boxes) == 1 && v.Boxes[0].Seq > before+1
	})
	if log := paused.log.String(); strings.Contains(log, "silent") {
		t.Errorf("a box was taken for silent:\n%s", log)
	}
	other.stop()
	paused.sees(t)
}

func TestNoGoroutineStays(t *testing.T) {
	nats := fleettest.Start(t)
	watch := start(t, settings(t, "watch", nats.URL))
	watch.sees(t)
	before := goleak.IgnoreCurrent()
	b := start(t, settings(t, "b", nats.URL))
	b.sees(t, "watch")
	b.stop()
	alone := start(t, settings(t, "alone", "nats://127.0.0.1:1"))
	alone.await(t, "alone", func(v *View) bool { return strings.HasPrefix(v.Problem, "connect to NATS") })
	alone.stop()
	var left error
	for began := time.Now(); time.Since(began) < patience; { // the NATS server has goroutines for the connections, too
		if left = goleak.Find(before); left == nil {
			return
		}
	}
	t.Error(left)
}

// A server that accepts connections and says nothing does not delay a stop.
func TestStopWhileConnecting(t *testing.T) {
	t.Parallel()
	fastest := time.Hour // of some: the machine may be busy
	for try := 0; try < 10 && fastest > requestTimeout/2; try++ {
		l, accepted := silentServer(t)
		b := start(t, settings(t, "b", "nats://"+l))
		<-accepted
		began := time.Now()
		b.stop()
		fastest = min(fastest, time.Since(began))
	}
	if fastest > requestTimeout/2 {
		t.Errorf("the fastest stop took %s", fastest)
	}
}

// TestNoServer: the problem has a reason for each server, whichever was tried last.
func TestNoServer(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	closed := fleettest.Start(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }).URL
	open := fleettest.Start(t).URL
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hung := "nats://" + silent.Addr().String()
	down := "nats://127.0.0.1:1"
	for name, tc := range map[string]struct {
		servers []string
		want    []string
		not     string
	}{
		"refuses":     {[]string{closed}, []string{"connect to NATS at " + closed + ": nats: Authorization Violation; check credentials_file"}, "nats-server runs"},
		"is down":     {[]string{down}, []string{"connect to NATS at " + down + ": dial tcp ", "connection refused; check that nats-server runs there"}, "no servers available"},
		"has no TLS":  {[]string{strings.Replace(down, "nats", "tls", 1), strings.Replace(open, "nats", "tls", 1)}, []string{"nats: secure connection not available; write nats:// in nats"}, "no servers available"},
		"hangs":       {[]string{hung}, []string{hung + ": no answer within 2s; nats-server hangs, or another program listens there"}, "read tcp"},
		"one of each": {[]string{closed, down}, []string{closed + ": nats: Authorization Violation; check credentials_file; " + down + ": dial tcp ", "connection refused; check that"}, "no servers available"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings(t, "a", tc.servers[0])
			s.NATS = tc.servers
			asWanted := func(err error) bool {
				return err != nil && !strings.Contains(err.Error(), tc.not) &&
					!slices.ContainsFunc(tc.want, func(want string) bool { return !strings.Contains(err.Error(), want) })
			}
			_, err := Probe(t.Context(), s)
			for began := time.Now(); !asWanted(err) && time.Since(began) < patience; { // on a busy machine no server may have answered in time
				_, err = Probe(t.Context(), s)
			}
			if !asWanted(err) {
				t.Errorf("%v; want %q, and not %q", err, tc.want, tc.not)
			}
		})
	}
}
