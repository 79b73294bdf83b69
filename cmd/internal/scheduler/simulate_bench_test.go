package scheduler

import (
	"fmt"
	"os"
	"testing"
	"text/tabwriter"
	"time"
)

// BenchmarkRules replays each trace under each rule and prints a table. It is
// deterministic.
func BenchmarkRules(b *testing.B) {
	for range b.N {
		out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(out, "trace\trule\tcalls\tp50 s\tp99 s\tmean s\tswaps\tUSD\tstarved\t")
		for _, t := range traces() {
			for _, r := range []struct {
				name     string
				rule     rule
				fallback bool
			}{
				{"count LRU", countLRU{most(t)}, false},
				{"Ollama", ollama{}, false},
				{"llama-swap", llamaSwap{}, false},
				{"llmsup, all wait", planned{}, false},
				{"llmsup, fallback", planned{}, true},
			} {
				got := replay(t, r.rule, r.fallback)
				sum := 0.0
				for _, w := range got.waits {
					sum += w
				}
				fmt.Fprintf(out, "%s\t%s\t%d\t%.1f\t%.1f\t%.1f\t%d\t%.2f\t%d\t\n", t.name, r.name, len(t.arrivals), got.wait(0.5), got.wait(0.99), sum/float64(max(len(got.waits), 1)), got.swaps, got.usd, got.starved)
			}
		}
		out.Flush()
	}
}

// most returns how many of a trace's models fit, whichever they are.
func most(t trace) int {
	n, left := 0, t.gib
	for range t.models {
		largest := 0.0
		for _, m := range t.models {
			largest = max(largest, m.gib)
		}
		if left -= largest; left < 0 {
			break
		}
		n++
	}
	return max(n, 1)
}

// BenchmarkMillion replays a million arrivals.
func BenchmarkMillion(b *testing.B) {
	t := sixModels(2, 1_250_000*time.Second)
	for range b.N {
		replay(t, planned{}, false)
	}
	b.ReportMetric(float64(len(t.arrivals)), "arrivals")
}
