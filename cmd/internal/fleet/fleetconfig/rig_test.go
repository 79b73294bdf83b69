package fleetconfig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

const (
	fleetKey = "0123456789abcdef0123456789abcdef"
	otherKey = "fedcba9876543210fedcba9876543210"

	testTimeout = 30 * time.Second
)

// box is a box of a test: a Manager on a member of a fleet, with a daemon that only has a
// configuration.
type box struct {
	*Manager
	member *fleet.Member
	dir    string
	stop   func() // and waits

	mu      sync.Mutex
	file    string // llmsup.yaml
	running *config.Config
	fails   error // of each Apply; nil = it works
	failed  int   // so often
}

// inFleet is a file's section fleet.
const inFleet = "fleet: {nats: 'nats://a', name: a, advertise: 'http://a:1', key_file: /k}\n"

func (b *box) load(file string, s *config.Shared) error {
	c, err := config.Parse("llmsup.yaml", []byte(file+inFleet))
	if err != nil {
		return err
	}
	if s != nil {
		c.Use(s)
	}
	if err := c.Resolve(func(string) string { return "" }); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running != nil {
		if err := c.CheckReloadable(b.running); err != nil {
			return err
		}
	}
	b.file, b.running = file, c
	return nil
}

func (b *box) present() (*config.Config, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running, b.file
}

// boxConfig implements Box.
type boxConfig struct{ b *box }

func (c boxConfig) Config() *config.Config { now, _ := c.b.present(); return now }
func (c boxConfig) Apply(s *config.Shared) error {
	_, file := c.b.present()
	if err := c.b.failing(); err != nil {
		return err
	}
	return c.b.load(file, s)
}

// fail has each Apply fail; nil = it works again.
func (b *box) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.failed = err, 0
}

func (b *box) failing() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		b.failed++
	}
	return b.fails
}

// awaitFailures waits until the box has failed for a reason several times.
func (b *box) awaitFailures(t *testing.T) {
	t.Helper()
	await(t, "the box has tried it again", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.failed >= 3
	})
}

func (c boxConfig) Check(s *config.Shared) error {
	now, file := c.b.present()
	return (&box{running: now}).load(file, s)
}

// reload is an operator's reload of a changed file.
func (b *box) reload(file string) error {
	return b.Reload(func(s *config.Shared) (bool, error) { return true, b.load(file, s) })
}

// newBox returns a box that has started with the state in a directory, and is in no fleet yet.
func newBox(t *testing.T, dir, file string) *box {
	t.Helper()
	b := &box{dir: dir, stop: func() {}}
	shared, err := Saved(dir)
	if err == nil {
		err = b.load(file, shared)
	}
	if err != nil {
		t.Fatal(err)
	}
	if b.Manager, err = Open(Options{Box: boxConfig{b}, StateDir: dir, Log: zerolog.New(zerolog.NewTestWriter(t))}); err != nil {
		t.Fatal(err)
	}
	return b
}

// join has the box join a fleet, and waits until it is connected.
func (b *box) join(t *testing.T, name, key string, urls ...string) *box {
	t.Helper()
	b.start(t, name, key, urls...)
	await(t, name+" is connected", b.connected)
	return b
}

func (b *box) connected() bool {
	b.Manager.mu.Lock()
	defer b.Manager.mu.Unlock()
	return b.bucket != nil
}

// start has the box begin to join a fleet.
func (b *box) start(t *testing.T, name, key string, urls ...string) *box {
	t.Helper()
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	b.member = fleet.New(fleet.Options{
		Settings: fleet.Settings{NATS: urls, Name: name, Advertise: "http://" + name + ":8000", KeyFile: keyFile},
		State: func() fleet.Box {
			s := b.Status()
			return fleet.Box{Version: "test", ConfigVersion: s.Version, ConfigRefused: s.Refused, ConfigProblem: fleet.Text(s.Problem)}
		},
		Changes: func() []<-chan struct{} { return nil }, Services: []fleet.Service{b.Manager}, Log: zerolog.Nop(),
	})
	b.SetView(b.member.View)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.member.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
	return b
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never was so that %s", what)
		}
	}
}

// awaitVersion waits until boxes run a version.
func awaitVersion(t *testing.T, version uint64, boxes ...*box) {
	t.Helper()
	for i, b := range boxes {
		await(t, fmt.Sprintf("box %d runs version %d", i, version), func() bool { return b.Status().Version == version })
	}
}

// push pushes a text, which must succeed.
func (b *box) push(t *testing.T, text string) control.PushedConfig {
	t.Helper()
	pushed, err := b.Push(t.Context(), control.PushRequest{File: "fleet.yaml", Text: text}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	return pushed
}

// routeTo returns a configuration with a route to a model.
func routeTo(model string) string {
	return "routes:\n  m: {primary: openrouter, primary_model: " + model + "}\n"
}

// routed returns the model to which a box routes m.
func (b *box) routed() string {
	now, _ := b.present()
	return now.Routes["m"].PrimaryModel
}

// outsider is a NATS client without the fleet's key.
func outsider(t *testing.T, url string) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(jsConn(t, url))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), bucketName)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func mustContain(t *testing.T, got error, want string) {
	t.Helper()
	if got == nil || !strings.Contains(got.Error(), want) {
		t.Errorf("%v, want %q", got, want)
	}
}

// jsConn returns a connection of an outsider.
func jsConn(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
