package threeboxes

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/router/usd"
)

// fleet is boxes with three NATS servers.
type fleet struct {
	t       *testing.T
	boxes   []*box
	nats    *fleettest.Cluster
	natsAt  []*host
	paid    *upstream
	clients *clients
	lines   map[*box]*line // nil = the boxes' networks are fast
}

// startFleet starts so many boxes that each answer so many calls at a time, and waits until
// each knows the others and is ready. budget is that of the fleet for a day.
func startFleet(t *testing.T, boxes, slots int, budget usd.Amount) *fleet {
	t.Helper()
	model := demoModel(t)
	newBridge(t)
	f := &fleet{t: t, paid: newUpstream(t, budget)}
	var places []fleettest.Place
	for i := range 3 {
		h := newHost(t, fmt.Sprint("nats", i+1), 11+i)
		f.natsAt = append(f.natsAt, h)
		places = append(places, fleettest.Place{Address: h.address, Start: h.start})
	}
	f.nats = fleettest.StartClusterAt(t, places)
	for i := range boxes {
		b := newBox(t, newHost(t, fmt.Sprint("box", i+1), 1+i), model, f.nats.URLs, slots, f.paid.url)
		b.start(firstVersion, false)
		f.boxes = append(f.boxes, b)
	}
	f.awaitWhole(t)
	f.push(t, budget)
	f.clients = newClients(f.boxes)
	return f
}

// push gives the boxes the configuration that they share, and waits until each has it.
func (f *fleet) push(t *testing.T, budget usd.Amount) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shared.yaml")
	text := fmt.Sprintf(`
keys:
  tool: {sha256: %x}
routes:
  local/demo: {primary: demo}
  local/backed: {primary: demo, fallback: paid, fallback_model: demo, resume: true}
  paid: {primary: paid, primary_model: demo}
budget: {daily: %s}
`, sha256.Sum256([]byte(clientKey)), budget)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// On a busy machine the box that has just joined may have no connection for a push yet.
	await(t, "llmsup fleet push", func() bool {
		out, err := exec.Command(program(firstVersion), "fleet", "push", file, "--control-socket", filepath.Join(f.boxes[0].state, "c.sock")).CombinedOutput()
		if err != nil && !strings.Contains(string(out), "this box has no connection") {
			t.Fatalf("llmsup fleet push: %v\n%s", err, out)
		}
		return err == nil
	})
	for _, b := range f.boxes {
		await(t, b.name+" with the budget of the fleet", func() bool {
			own := b.fleetBudget()
			return own != nil && own.Fleet.Granted > 0
		})
	}
}

// demoModel writes the model. It is removed when the test ends.
func demoModel(t *testing.T) (path string) {
	t.Helper()
	path, err := demo.Ensure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitWhole waits until each box is ready, and sees the others ready.
func (f *fleet) awaitWhole(t *testing.T) {
	t.Helper()
	for _, b := range f.boxes {
		await(t, b.name+" in a fleet of ready boxes", func() bool {
			known, err := b.client.Boxes(t.Context())
			if err != nil || known.Fleet == nil || !known.Fleet.Joined || len(known.Boxes) != len(f.boxes) {
				return false
			}
			for _, other := range known.Boxes {
				if other.Drained || len(other.Models) != 1 || other.Models[0].State != "ready" {
					return false
				}
			}
			return true
		})
	}
}

// others returns the boxes but b.
func (f *fleet) others(b *box) []*box {
	return slices.DeleteFunc(slices.Clone(f.boxes), func(other *box) bool { return other == b })
}

// awaitDropped waits until one box no longer knows another one.
func (f *fleet) awaitDropped(t *testing.T, by, gone *box) {
	t.Helper()
	await(t, gone.name+" dropped by "+by.name, func() bool { return !by.knows(gone) })
}

// knows returns whether the box knows another one.
func (b *box) knows(other *box) bool {
	known, err := b.client.Boxes(b.t.Context())
	if err != nil {
		return true // nothing is known
	}
	for _, o := range known.Boxes {
		if o.Name == other.name {
			return true
		}
	}
	return false
}

// leader returns the index of the NATS server that leads the bucket.
func (f *fleet) leader(t *testing.T) int {
	t.Helper()
	nc, err := nats.Connect(f.nats.URLs[0], nats.Timeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	i := -1
	await(t, "a leader of the bucket", func() bool {
		if stream, err := js.Stream(t.Context(), "KV_llmsup-boxes"); err == nil {
			i = slices.Index(f.nats.Names, stream.CachedInfo().Cluster.Leader)
		}
		return i >= 0
	})
	return i
}

// long returns whether the test takes its time.
func long() bool { return os.Getenv("LLMSUP_TEST_LONG") != "" }
