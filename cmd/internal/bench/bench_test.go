//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"testing"
)

var (
	llmsupPath = flag.String("llmsup", "", "the llmsup to measure")
	rounds     = flag.Int("rounds", 5, "how often each measure is taken; the table has the medians")
	only       = flag.String("only", ".", "a regular expression: the measures to take")
)

// TestMain is also the entry of the baseline, a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleBaseline {
		baseline()
		return
	}
	os.Exit(m.Run())
}

// What the router is to cost at most, as a ratio to the baseline, or in MB. The
// memory is that which nobody else could have: how much of the program's file is
// mapped beside it, some 20 MB, varies by 6 MB with how that lies in the page cache.
const (
	goalSmall  = 1.3
	goalLarge  = 1.5
	goalChunk  = 1.1
	goalMemory = 30
	goalLedger = 1.03 // to llmsup without it
)

// TestBench takes every measure and prints the table. It fails when something is
// broken: an error, a wrong answer, a lost chunk. A ratio that is too high fails
// nothing: the machine may be busy with something else.
func TestBench(t *testing.T) {
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // as long as the proxies live: their death signal and their core go by this thread
	first, others := cores(t)
	pinProcess(t, others)
	up := newUpstream(t)
	reverse := startBaseline(t, up.address, first, others)
	llmsup := startLLMsup(t, "llmsup", *llmsupPath, up.address, "", first, others)
	bookless := startLLMsup(t, "llmsup without its ledger", *llmsupPath, up.address, "ledger: {enabled: false}\n", first, others)
	direct := &target{name: "direct", address: up.address}
	proxies := []*target{reverse, llmsup}

	tab, alone, books := &table{}, &table{}, &table{}
	if wanted.MatchString("memory") {
		measureMemory(t, tab, proxies)
	}
	small, large := newRequest(400), newRequest(200<<10)
	for round := range *rounds {
		if wanted.MatchString("small") {
			inTurn(proxies, parts, func(p *target) {
				tab.add("CPU a call, small body", "µs", goalSmall, p, cpuOfCalls(t, p, small, 64, 2_000))
			})
		}
		if wanted.MatchString("large") {
			inTurn(proxies, parts, func(p *target) {
				tab.add("CPU a call, 200 KB body", "µs", goalLarge, p, cpuOfCalls(t, p, large, 64, 600))
			})
		}
		order := proxies
		if round%2 == 1 {
			order = []*target{llmsup, reverse}
		}
		if wanted.MatchString("ledger") {
			inTurn([]*target{bookless, llmsup}, 2*parts, func(p *target) {
				books.add("CPU a call, small body", "µs", goalLedger, p, cpuOfCalls(t, p, small, 64, 4_000))
			})
		}
		if wanted.MatchString("latency") {
			there := latency(t, direct, small, 2_000)
			alone.add("latency, p50", "µs", 0, direct, there.at(0.50))
			alone.add("latency, p99", "µs", 0, direct, there.at(0.99))
			for _, p := range order {
				through := latency(t, p, small, 2_000)
				tab.add("added latency, p50", "µs", 0, p, through.at(0.50)-there.at(0.50))
				tab.add("added latency, p99", "µs", 0, p, through.at(0.99)-there.at(0.99))
			}
		}
		if wanted.MatchString("chunk") {
			inTurn(proxies, parts/2, func(p *target) { // streams long enough that a call's own cost is no part of a chunk's
				tab.add("CPU a chunk, 64 streams", "µs", goalChunk, p, pacedStreams(t, p, 64, 200).cpu)
			})
		}
		if wanted.MatchString("paced") {
			there := pacedStreams(t, direct, pacedCount, 80).delays
			alone.add("delay of a chunk, p50", "µs", 0, direct, there.at(0.50))
			alone.add("delay of a chunk, p99", "µs", 0, direct, there.at(0.99))
			inTurn(proxies, parts/2, func(p *target) {
				s := pacedStreams(t, p, pacedCount, 80)
				tab.add(fmt.Sprintf("CPU a chunk, %d streams", pacedCount), "µs", goalChunk, p, s.cpu)
				tab.add(fmt.Sprintf("added delay of a chunk, %d streams, p50", pacedCount), "µs", 0, p, s.delays.at(0.50)-there.at(0.50))
				tab.add(fmt.Sprintf("added delay of a chunk, %d streams, p99", pacedCount), "µs", 0, p, s.delays.at(0.99)-there.at(0.99))
			})
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("the proxy on one core, the upstream and the clients on %d other; medians of %d rounds\n%s", others.Count(), *rounds, tab.text(reverse, llmsup))
	if wanted.MatchString("ledger") {
		t.Logf("with the ledger and without it; medians of %d turns\n%s", 2*parts**rounds, books.text(bookless, llmsup))
	}
	t.Logf("without a proxy, so what the machine itself adds: %s", alone.words(direct))
}

// parts is into how many parts of a round the measures of CPU time are cut. What
// else the machine does changes from second to second, so two proxies are compared
// that were measured within one.
const parts = 6

// inTurn measures the proxies one after the other, n times. Who goes first has the
// caches and the noise of another moment, so each does as often.
func inTurn(proxies []*target, n int, measure func(*target)) {
	for i := range n {
		for j := range proxies {
			measure(proxies[(i+j)%len(proxies)])
		}
	}
}

// pacedCount is how many streams are open at once where the pace is the point.
const pacedCount = 512

// measureMemory looks at proxies that have done nothing else yet.
func measureMemory(t *testing.T, tab *table, proxies []*target) {
	for _, p := range proxies {
		tab.add("memory at rest (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		call(t, p, newRequest(400), 64, 10_000)
		tab.add("memory after 10,000 calls (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		tab.add("of it not the program's own file (RssAnon)", "MB", goalMemory, p, p.memory(t, "RssAnon"))
		s := pacedStreams(t, p, pacedCount, 100)
		tab.add(fmt.Sprintf("memory with %d streams open (VmRSS)", pacedCount), "MB", 0, p, s.memory)
		call(t, p, newRequest(200<<10), 64, 2_000)
		tab.add("memory after 2,000 calls of 200 KB more (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		tab.add("the most that it ever was (VmHWM)", "MB", 0, p, p.memory(t, "VmHWM"))
	}
}
