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
	beforePath = flag.String("before", "", "another build of llmsup, which gets a column of its own")
	profiles   = flag.String("profile", "", "a directory for a CPU profile per row; llmsup has to be built with the tag bench")
	rounds     = flag.Int("rounds", 5, "how often each row is measured, every time with new processes; the table has the medians")
	check      = flag.Bool("check", false, "measure each row once and without the pauses between calls: it shows that the rows can be measured, and the numbers mean little")
	only       = flag.String("only", ".", "a regular expression: the rows to measure")
)

// TestMain is also the entry of the baseline, a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == roleBaseline {
		baseline()
		return
	}
	os.Exit(m.Run())
}

// TestBench measures every row and prints the table. It fails when something is
// broken: an error, a wrong answer, a lost event. A ratio that is too high fails
// nothing: the machine may be busy with something else.
func TestBench(t *testing.T) {
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread() // as long as the proxies live: their death signal and their core depend on this thread
	first, others := cores(t)
	pinProcess(t, others)
	b := &bench{wanted: wanted, first: first, others: others, upstream: newUpstream(t), tab: &table{}}
	for n := range *rounds {
		b.round(t, n)
		if t.Failed() {
			return
		}
	}
	columns := []string{reverseName, llmsupName}
	if *beforePath != "" {
		columns = []string{reverseName, beforeName, llmsupName}
	}
	t.Logf("the proxy on one core, the upstream and the clients on %d other; medians of %d rounds\n%s", others.Count(), *rounds, b.tab.text(columns))
}
