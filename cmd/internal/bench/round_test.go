//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The names of what is measured.
const (
	directName   = "direct"
	reverseName  = "ReverseProxy"
	llmsupName   = "llmsup"
	booklessName = "without its ledger"
)

// bench is what all rounds have in common.
type bench struct {
	wanted        *regexp.Regexp
	first, others *unix.CPUSet // the proxies' core, and that of all else
	upstream      *upstream

	tab   *table // llmsup and the baseline
	alone *table // no proxy at all
	books *table // llmsup with its ledger and without it
}

func (b *bench) wants(measure string) bool { return b.wanted.MatchString(measure) }

// round takes every measure that is wanted, of processes of its own: where a
// process happens to have its memory makes up to a tenth of what the same program
// costs, for as long as it runs.
func (b *bench) round(t *testing.T, n int) {
	t.Run(fmt.Sprintf("round %d", n+1), func(t *testing.T) {
		direct := &target{name: directName, address: b.upstream.address}
		reverse := startBaseline(t, b.upstream.address, b.first, b.others)
		llmsup := startLLMsup(t, llmsupName, *llmsupPath, b.upstream.address, "", b.first, b.others)
		proxies := []*target{reverse, llmsup}
		if n%2 == 1 {
			proxies = []*target{llmsup, reverse}
		}
		small, large := newRequest(400), newRequest(200<<10)
		if b.wants("memory") {
			b.memory(t, proxies)
		}
		if b.wants("small") {
			b.calls(t, "CPU a call, small body", goalSmall, proxies, small, 2_000)
		}
		if b.wants("large") {
			b.calls(t, "CPU a call, 200 KB body", goalLarge, proxies, large, 600)
		}
		if b.wants("ledger") {
			b.ledger(t, small)
		}
		if b.wants("latency") {
			b.latency(t, direct, proxies, small)
		}
		if b.wants("chunk") {
			inTurn(proxies, parts/2, func(p *target) { // streams long enough that a call's own cost is no part of a chunk's
				b.tab.add("CPU a chunk, 64 streams", "µs", goalChunk, p, pacedStreams(t, p, 64, 200).cpu)
			})
		}
		if b.wants("paced") {
			b.paced(t, direct, proxies)
		}
	})
}

// calls measures what a call costs.
func (b *bench) calls(t *testing.T, measure string, goal float64, proxies []*target, request []byte, count int) {
	inTurn(proxies, parts, func(p *target) {
		b.tab.add(measure, "µs", goal, p, cpuOfCalls(t, p, request, 64, count))
	})
}

// ledger measures what the ledger makes of a call's cost, in one process that has
// it turned off and on.
func (b *bench) ledger(t *testing.T, request []byte) {
	const clients, each = 64, 60
	on := startLLMsup(t, llmsupName, *turnable, b.upstream.address, "", b.first, b.others)
	off := &target{name: booklessName, address: on.address, pid: on.pid}
	is, want := on, 0
	inTurn([]*target{off, on}, ledgerTurns, func(p *target) {
		if p != is {
			if err := unix.Kill(p.pid, unix.SIGUSR2); err != nil {
				t.Fatalf("turn the ledger of %s: %v", p.name, err)
			}
			time.Sleep(settle) // what was recorded before is no cost of what comes
			is = p
		}
		b.books.add("CPU a call, small body", "µs", goalLedger, p, cpuOfCalls(t, p, request, clients, clients*each))
		if p == on {
			want += clients * (each + warmUp(each))
		}
	})
	if rows := rowsOf(t, on); rows != want {
		t.Errorf("%d calls are in the ledger, which was on for %d", rows, want)
	}
}

// rowsOf counts the calls in an llmsup's ledger.
func rowsOf(t *testing.T, p *target) int {
	t.Helper()
	out, err := exec.Command(*turnable, "usage", "--json", "--control-socket", p.control).Output()
	if err != nil {
		t.Fatalf("llmsup usage: %v", err)
	}
	var usage struct {
		Total struct {
			Calls int `json:"calls"`
		} `json:"total"`
	}
	if err := json.Unmarshal(out, &usage); err != nil {
		t.Fatal(err)
	}
	return usage.Total.Calls
}

// latency measures by how much a call takes longer when it is the only one.
func (b *bench) latency(t *testing.T, direct *target, proxies []*target, request []byte) {
	there := latency(t, direct, request, 2_000)
	b.alone.add("latency, p50", "µs", 0, direct, there.at(0.50))
	b.alone.add("latency, p99", "µs", 0, direct, there.at(0.99))
	for _, p := range proxies {
		through := latency(t, p, request, 2_000)
		b.tab.add("added latency, p50", "µs", 0, p, through.at(0.50)-there.at(0.50))
		b.tab.add("added latency, p99", "µs", 0, p, through.at(0.99)-there.at(0.99))
	}
}

// paced measures streams at the pace of a server that has many.
func (b *bench) paced(t *testing.T, direct *target, proxies []*target) {
	there := pacedStreams(t, direct, pacedCount, 80).delays
	b.alone.add("delay of a chunk, p50", "µs", 0, direct, there.at(0.50))
	b.alone.add("delay of a chunk, p99", "µs", 0, direct, there.at(0.99))
	inTurn(proxies, parts/2, func(p *target) {
		s := pacedStreams(t, p, pacedCount, 80)
		b.tab.add(fmt.Sprintf("CPU a chunk, %d streams", pacedCount), "µs", goalChunk, p, s.cpu)
		b.tab.add(fmt.Sprintf("added delay of a chunk, %d streams, p50", pacedCount), "µs", 0, p, s.delays.at(0.50)-there.at(0.50))
		b.tab.add(fmt.Sprintf("added delay of a chunk, %d streams, p99", pacedCount), "µs", 0, p, s.delays.at(0.99)-there.at(0.99))
	})
}

// forRest is more than llmsup takes to give back what calls have left behind.
const forRest = 11 * time.Second

// memory looks at proxies that have done nothing else yet.
func (b *bench) memory(t *testing.T, proxies []*target) {
	for _, p := range proxies {
		b.tab.add("memory at rest (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		call(t, p, newRequest(400), 64, 10_000)
		b.tab.add("memory after 10,000 calls (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		b.tab.add("of it not the program's own file (RssAnon)", "MB", 0, p, p.memory(t, "RssAnon"))
	}
	time.Sleep(forRest)
	for _, p := range proxies {
		b.tab.add("memory some seconds later (VmRSS)", "MB", goalMemory, p, p.memory(t, "VmRSS"))
		s := pacedStreams(t, p, pacedCount, 100)
		b.tab.add(fmt.Sprintf("memory with %d streams open (VmRSS)", pacedCount), "MB", 0, p, s.memory)
		call(t, p, newRequest(200<<10), 64, 2_000)
		b.tab.add("memory after 2,000 calls of 200 KB more (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
	}
	time.Sleep(forRest)
	for _, p := range proxies {
		b.tab.add("memory some seconds after these (VmRSS)", "MB", 0, p, p.memory(t, "VmRSS"))
		b.tab.add("the most that it ever was (VmHWM)", "MB", 0, p, p.memory(t, "VmHWM"))
	}
}
