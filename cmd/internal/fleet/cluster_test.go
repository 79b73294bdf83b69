package fleet

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// silentServer accepts connections on the address that it returns, and sends nothing.
func silentServer(t *testing.T) (address string, accepted <-chan struct{}) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	first := make(chan struct{})
	go func() {
		var once sync.Once
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			once.Do(func() { close(first) })
		}
	}()
	return l.Addr().String(), first
}

// leader returns the index of the server that leads the bucket, and how many copies it has.
func leader(t *testing.T, c *fleettest.Cluster) (index, copies int) {
	t.Helper()
	for i, url := range c.URLs {
		nc, err := nats.Connect(url, nats.Timeout(time.Second))
		if err != nil {
			continue
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := js.Stream(t.Context(), "KV_"+bucketName)
		nc.Close()
		if err != nil {
			t.Fatalf("%s: %v", c.Names[i], err)
		}
		info := stream.CachedInfo()
		return slices.Index(c.Names, info.Cluster.Leader), info.Config.Replicas
	}
	t.Fatal("no NATS server answers")
	return 0, 0
}

// No box drops out when the server is killed that leads the bucket: an election takes up to
// 9 seconds, and announcements need no leader.
func TestLeaderIsKilled(t *testing.T) {
	t.Parallel()
	cluster := fleettest.StartCluster(t, 3)
	var boxes []*box
	for _, name := range []string{"a", "b", "c"} {
		boxes = append(boxes, start(t, settings(t, name, cluster.URLs...)))
	}
	others := [][]string{{"b", "c"}, {"a", "c"}, {"a", "b"}}
	for i, b := range boxes {
		b.sees(t, others[i]...)
	}
	// A busy machine may keep a box from running for three seconds, once.
	var first int
	var dropped string
	for range 3 {
		var copies int
		if first, copies = leader(t, cluster); copies != 3 {
			t.Errorf("the bucket has %d copies", copies)
		}
		cluster.Kill(first)
		dropped = dropsOut(boxes)
		for i, b := range boxes {
			b.sees(t, others[i]...)
		}
		if dropped == "" {
			break
		}
		t.Log(dropped)
		cluster.Start(t, first)
	}
	if dropped != "" {
		t.Fatal("three times a box dropped out")
	}
	// The cluster works, and the bucket has the boxes.
	if second, _ := leader(t, cluster); second == first {
		t.Error("the killed server leads the bucket")
	}
	d := start(t, settings(t, "d", cluster.URLs...))
	d.sees(t, "a", "b", "c")
	cluster.Start(t, first)
}

// dropsOut watches boxes for 12 s, until the bucket stores announcements again after its leader
// was killed, and says which of them no longer sees two others.
func dropsOut(boxes []*box) (problem string) {
	began := time.Now()
	for time.Since(began) < 12*time.Second {
		for _, b := range boxes {
			if v := b.View(); len(v.Boxes) != 2 && problem == "" {
				problem = fmt.Sprintf("%s: %s after the kill it sees %v only", v.Name, time.Since(began), names(v))
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return problem
}
