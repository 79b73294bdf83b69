//go:build bench

package bench

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The columns of the table.
const (
	reverseName = "ReverseProxy"
	beforeName  = "before"
	llmsupName  = "llmsup"
)

// bench is the common state of all rounds.
type bench struct {
	wanted        *regexp.Regexp
	first, others *unix.CPUSet // the proxies' core, and that of the upstream and the clients
	upstream      *upstream
	tab           *table
}

// load is what a row's clients do.
type load struct {
	name    string // for -only
	measure string
	target  float64 // of the ratio to the baseline
	clients int
	calls   int // of all clients, for one measurement
	turns   int // measurements of each proxy in a round
	request []byte
	events  int // of the stream that is the answer; 0 = none
}

func loads() []load {
	small := newRequest(400)
	return []load{
		{name: "small1", measure: "CPU per call, small, 1 client", target: 1.2, clients: 1, calls: 2_000, turns: 3, request: small},
		{name: "small64", measure: "CPU per call, small, 64 clients", target: 0.9, clients: 64, calls: 6_400, turns: 3, request: small},
		{name: "large", measure: "CPU per call, 200 KB body, 4 clients", target: 1.2, clients: 4, calls: 800, turns: 3, request: newRequest(200 << 10)},
		{name: "huge", measure: "CPU per call, 2 MB body, 2 clients", target: 1.2, clients: 2, calls: 120, turns: 3, request: newRequest(2 << 20)},
		{name: "burst", measure: "CPU per stream of 256 events as fast as possible, 32 clients", target: 1.0, clients: 32, calls: 320, turns: 3, request: newStreamRequest(256, 0), events: 256},
		{name: "paced", measure: "CPU per stream of 256 events, one in 5 ms, 64 clients", target: 1.05, clients: 64, calls: 64, turns: 1, request: newStreamRequest(256, 5*time.Millisecond), events: 256},
	}
}

// round measures the selected rows with new processes: depending on where a process has
// its memory, the same program costs up to a tenth more, for as long as it runs.
func (b *bench) round(t *testing.T, n int) {
	t.Run(fmt.Sprintf("round %d", n+1), func(t *testing.T) {
		proxies := []*target{startBaseline(t, b.upstream.address, b.first, b.others)}
		if *beforePath != "" {
			proxies = append(proxies, startLLMsup(t, beforeName, *beforePath, b.upstream.address, b.first, b.others))
		}
		proxies = append(proxies, startLLMsup(t, llmsupName, *llmsupPath, b.upstream.address, b.first, b.others))
		first := n % len(proxies) // a different one in each round
		proxies = slices.Concat(proxies[first:], proxies[:first])
		if b.wanted.MatchString("memory") {
			b.memory(t, proxies)
		}
		if b.wanted.MatchString("latency") {
			b.profiled(t, proxies, n, "latency", func() {
				inTurn(proxies, 2, func(p *target) {
					b.tab.add("p50 of the latency, small, 1 client", "µs", 1.15, p, latency(t, p, newRequest(400), 1_500).at(0.50))
				})
			})
		}
		for _, l := range loads() {
			if b.wanted.MatchString(l.name) {
				b.profiled(t, proxies, n, l.name, func() {
					inTurn(proxies, l.turns, func(p *target) { b.tab.add(l.measure, "µs", l.target, p, cpuOfCalls(t, p, l)) })
				})
			}
		}
	})
}

// inTurn measures the proxies one after the other, n times. The load of the machine
// changes from second to second, so the compared measurements are only seconds apart, and
// each proxy comes first equally often.
func inTurn(proxies []*target, n int, measure func(*target)) {
	if *check {
		n = 1
	}
	for i := range n {
		for j := range proxies {
			measure(proxies[(i+j)%len(proxies)])
		}
	}
}

// profiled runs the measurement of a row, during which llmsup writes a CPU profile if
// -profile is given.
func (b *bench) profiled(t *testing.T, proxies []*target, round int, row string, measure func()) {
	toggle := func(p *target) {
		if err := unix.Kill(p.pid, unix.SIGUSR1); err != nil {
			t.Fatalf("profile %s: %v", p.name, err)
		}
	}
	for _, p := range proxies {
		if *profiles != "" && p.name == llmsupName {
			toggle(p)
			defer p.keepProfile(t, filepath.Join(*profiles, fmt.Sprintf("%s-%d.pprof", row, round+1)))
			defer toggle(p)
		}
	}
	measure()
}

// openStreams is the number of open streams when their memory is measured.
const openStreams = 512

// untilReleased is longer than llmsup takes to release the memory that calls used. The
// measurement waits for this fixed time in every proxy, since only llmsup releases any.
const untilReleased = 11 * time.Second

// memory measures the memory of proxies that have just started.
func (b *bench) memory(t *testing.T, proxies []*target) {
	for _, p := range proxies {
		b.tab.add("resident memory after the start", "MB", 0, p, p.memory(t))
		call(t, p, newRequest(400), 64, 10_000)
		b.tab.add("resident memory during the last of 10,000 calls", "MB", 0, p, p.memory(t))
	}
	time.Sleep(untilReleased)
	for _, p := range proxies {
		b.tab.add("resident memory after 10,000 calls", "MB", 28, p, p.memory(t))
		b.tab.add(fmt.Sprintf("resident memory with %d streams open", openStreams), "MB", 0, p, memoryOfStreams(t, p, openStreams))
	}
}
