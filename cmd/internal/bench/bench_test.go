//go:build bench

package bench

import (
	"flag"
	"os"
	"regexp"
	"runtime"
	"testing"
)

var (
	llmsupPath = flag.String("llmsup", "", "the llmsup to measure")
	turnable   = flag.String("turnable", "", "one that was built with the tag bench: SIGUSR2 turns its ledger off and on")
	rounds     = flag.Int("rounds", 5, "how often each measure is taken, every time of new processes; the table has the medians")
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
// memory is what 10,000 calls leave, once those who made them rest: in the midst
// of a burst some 5 MB more wait for the next collection.
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
	b := &bench{wanted: wanted, first: first, others: others, upstream: newUpstream(t), tab: &table{}, alone: &table{}, books: &table{}}
	for n := range *rounds {
		b.round(t, n)
		if t.Failed() {
			return
		}
	}
	t.Logf("the proxy on one core, the upstream and the clients on %d other; medians of %d rounds\n%s", others.Count(), *rounds, b.tab.text(reverseName, llmsupName))
	if b.wants("ledger") {
		t.Logf("the same process with its ledger and without it; medians of %d turns\n%s", ledgerTurns**rounds, b.books.text(booklessName, llmsupName))
	}
	t.Logf("without a proxy, so what the machine itself adds: %s", b.alone.words(directName))
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

// ledgerTurns is how often that of the ledger is taken in a round. It looks for a
// difference that is smaller than the others, and than most of the noise.
const ledgerTurns = 4 * parts

// pacedCount is how many streams are open at once where the pace is the point.
const pacedCount = 512
