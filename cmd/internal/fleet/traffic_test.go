package fleet

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// announcement returns one of a box with two models and a GPU.
func announcement(s sealer, box int, seq uint64) (name string, value []byte) {
	name = fmt.Sprintf("gpu-box-%d", box)
	b := Box{
		Name: name, Instance: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", Seq: seq, Address: "http://" + name + ".internal:8000", Version: "v1.2.3",
		GPUs: []GPU{{Index: 0, Health: "ok"}},
	}
	for _, model := range []string{"qwen2.5-14b", "nomic-embed-text"} {
		b.Models = append(b.Models, Model{
			Name: model, State: "ready", Slots: new(4), Free: new(1), Queued: 2, TokensPerSecond: new(123.4), FirstTokenSeconds: new(0.25),
			LoadSeconds: new(12.5), ServiceSeconds: new(3.5), PromptTokensPerSecond: new(1850.2),
			ContextLength: new(8192), Capabilities: []string{"chat", "completion", "tools"}, Aggregation: true,
		})
	}
	value, err := s.seal(&b)
	if err != nil {
		panic(err)
	}
	return name, value
}

// cpu returns the processor time of this process so far.
func cpu() time.Duration {
	var use syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// BenchmarkReceive is what a box does with each announcement in a fleet of 1,000.
func BenchmarkReceive(b *testing.B) {
	const boxes = 400
	m := New(Options{Settings: Settings{Name: "self"}, Log: zerolog.Nop()})
	s := newSealer([]byte(fleetKey))
	var names []string
	var values [][]byte
	for seq := range uint64(20) {
		for box := range boxes {
			name, value := announcement(s, box, seq+1)
			names, values = append(names, name), append(values, value)
		}
	}
	for i := range boxes {
		m.receive(s, names[i], values[i])
	}
	next, before := boxes, cpu()
	for b.Loop() {
		m.receive(s, names[next], values[next])
		if next++; next == len(names) {
			m.peers.byName, next = map[string]Peer{}, 0
		}
	}
	b.ReportMetric(float64((cpu()-before).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(len(values[0])), "bytes")
}

// listen subscribes to the announcements on a connection that does nothing but count bytes.
func listen(t *testing.T, address string, received *atomic.Int64) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s* 1\r\nPING\r\n", subjects)
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "PONG") {
			break
		}
	}
	go func() {
		buffer := make([]byte, 256<<10)
		for {
			n, err := conn.Read(buffer)
			received.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
}

// TestTraffic measures what announcements cost one NATS server: each box announces itself once,
// to all others. With -v it prints the result; LLMSUP_TEST_LONG=1 measures 1,000 boxes.
func TestTraffic(t *testing.T) {
	boxes := 50
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		boxes = 1000
	}
	server := fleettest.Start(t)
	var received atomic.Int64
	var connecting sync.WaitGroup
	for range boxes {
		connecting.Go(func() { listen(t, strings.TrimPrefix(server.URL, "nats://"), &received) })
	}
	connecting.Wait()
	nc, err := nats.Connect(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	s := newSealer([]byte(fleetKey))
	want, size := int64(0), 0
	before, began := cpu(), time.Now()
	for box := range boxes {
		name, value := announcement(s, box, 1)
		size = len(value)
		if err := nc.Publish(subjects+name, value); err != nil {
			t.Fatal(err)
		}
		want += int64(boxes * len(fmt.Sprintf("MSG %s 1 %d\r\n%s\r\n", subjects+name, len(value), value)))
		if err := nc.Flush(); err != nil { // the server must not disconnect slow listeners
			t.Fatal(err)
		}
	}
	late := time.After(5 * time.Minute)
	for received.Load() < want {
		select {
		case <-late:
			t.Fatalf("%d of %d bytes have been received", received.Load(), want)
		case <-time.After(10 * time.Millisecond):
		}
	}
	used := cpu() - before
	t.Logf("%d boxes, an announcement each: %d bytes, %d deliveries, %d bytes delivered, %.1f s of processor time (server and sockets), %.1f s",
		boxes, size, boxes*boxes, received.Load(), used.Seconds(), time.Since(began).Seconds())
}
