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

// leader waits until the bucket has a leader, and this number of other copies that have all its
// announcements, and returns the index of the leader's server.
func leader(t *testing.T, c *fleettest.Cluster, copies int) int {
	t.Helper()
	var problem error
	for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) {
		for _, url := range c.URLs {
			var info *jetstream.StreamInfo
			if info, problem = bucketInfo(t, url); problem != nil {
				continue
			}
			current := 0
			for _, r := range info.Cluster.Replicas {
				if r.Current && !r.Offline {
					current++
				}
			}
			if i := slices.Index(c.Names, info.Cluster.Leader); i >= 0 && current == copies {
				return i
			}
			problem = fmt.Errorf("the leader is %q, and %d other copies have all", info.Cluster.Leader, current)
		}
	}
	t.Fatal(problem)
	return 0
}

// bucketInfo returns what a NATS server knows of the bucket.
func bucketInfo(t *testing.T, url string) (*jetstream.StreamInfo, error) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(t.Context(), "KV_"+bucketName)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
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
		// NATS elects none of two servers if one of them has just started, and has no copy yet.
		first = leader(t, cluster, 2)
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
	if second := leader(t, cluster, 1); second == first {
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
