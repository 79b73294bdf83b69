package report

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

func TestMain(m *testing.M) { fleettest.Main(m) }

// api is a control API: what it answers for each path, encoded as JSON, or as it is if it is
// a text.
type api map[string]any

func (a api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	value, known := a[r.URL.Path]
	if !known {
		w.WriteHeader(http.StatusNotFound)
		value = `{"error": "this daemon has no ` + r.URL.Path + `"}`
	}
	if text, is := value.(string); is {
		_, _ = w.Write([]byte(text))
		return
	}
	_ = json.NewEncoder(w).Encode(value)
}

// box is a box of a test.
type box struct {
	*Service
	*fleet.Member
	stop func() // and waits
}

const testKey = "0123456789abcdef0123456789abcdef"

// patience is how long a test waits for what is expected within a second or two.
const patience = 30 * time.Second

// start starts a box that has a fleet's key.
func start(t *testing.T, url, name, key string, answers http.Handler) *box {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &box{}
	b.Service = New(Options{API: answers, View: func() *fleet.View { return b.View() }, Log: zerolog.Nop()})
	b.timeout = patience
	b.Member = fleet.New(fleet.Options{
		Settings: fleet.Settings{NATS: []string{url}, Name: name, Advertise: "http://" + name + ":8000", KeyFile: file},
		State:    func() fleet.Box { return fleet.Box{Version: "v"} },
		Changes:  func() []<-chan struct{} { return nil },
		Services: []fleet.Service{b.Service}, Log: zerolog.Nop(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
	// It may announce itself before NATS has its subscription to requests.
	b.await(t, "able to answer", func(v *fleet.View) bool { return v.Joined && b.conn.Load().NATS.Flush() == nil })
	return b
}

// await waits until the box's view is as it has to be, and it can ask.
func (b *box) await(t *testing.T, what string, is func(*fleet.View) bool) {
	t.Helper()
	for late := time.After(patience); ; {
		v := b.View()
		if (!v.Joined || b.conn.Load() != nil) && is(v) {
			return
		}
		select {
		case <-v.Changed:
		case <-time.After(10 * time.Millisecond): // the Service has no event
		case <-late:
			t.Fatalf("%s is not %s: %+v", v.Name, what, v)
		}
	}
}

// sees waits until the box knows these others.
func (b *box) sees(t *testing.T, others ...string) {
	t.Helper()
	b.await(t, "in a fleet with "+strings.Join(others, ", "), func(v *fleet.View) bool {
		var names []string
		for _, p := range v.Boxes {
			names = append(names, p.Name)
		}
		return v.Joined && strings.Join(names, " ") == strings.Join(others, " ")
	})
}
