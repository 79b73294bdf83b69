package pick

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// loadScenarios are fleets of which three boxes in ten have the model loaded at the start. The load
// is about what these can take.
var loadScenarios = []named{
	{"10 boxes, rising load", loads(10, rising, 150*time.Second)},
	{"10 boxes, a burst", loads(10, oneBurst, time.Minute)},
	{"100 boxes, rising load", loads(100, rising, 150*time.Second)},
	{"100 boxes, a burst", loads(100, oneBurst, time.Minute)},
}

func loads(boxes int, shape func(seconds float64) float64, length time.Duration) scenario {
	return scenario{boxes: boxes, slots: 4, load: 1, loadedOfTen: 3, loadTime: 10 * time.Second, shape: shape, length: length}
}

// rising is a load that rises within a minute, and stays.
func rising(seconds float64) float64 { return min(.3+.9*seconds/60, 1.2) }

// oneBurst is five seconds of four times what the loaded boxes can take.
func oneBurst(seconds float64) float64 {
	if seconds >= 30 && seconds < 35 {
		return 4
	}
	return .6
}

func mean(waits []time.Duration) (sum time.Duration) {
	for _, w := range waits {
		sum += w
	}
	return sum / time.Duration(len(waits))
}

// When the boxes that have the model loaded are busy, other boxes load it, but no stampede of loads
// forms, while an oracle that knows all queues loads it at many boxes. Calls do not
// wait for longer than if no box loaded it.
func TestLoads(t *testing.T) {
	for _, sc := range loadScenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			trace := sc.trace(1)
			oracle, ours, never := simulate(sc.scenario, trace, rules[withOracle]), simulate(sc.scenario, trace, rules[withOrder]), simulate(sc.scenario, trace, rules[withoutLoads])
			if ours.loads == 0 || ours.mostLoading > max(4, sc.boxes/10) || oracle.mostLoading < 4 || never.loads > 0 {
				t.Errorf("%d boxes have loaded the model, %d at one time; with the oracle %d at one time", ours.loads, ours.mostLoading, oracle.mostLoading)
			}
			if mean(ours.waits) > mean(never.waits)*11/10 {
				t.Errorf("calls wait for %v, without loads for %v", mean(ours.waits), mean(never.waits))
			}
		})
	}
}

// At a load that does not end, each call waits for at most twice the time that it would have had to
// wait elsewhere, and at first for at most twice the time that the load should take.
func TestLoadNeverEnds(t *testing.T) {
	sc := loads(10, rising, 150*time.Second)
	sc.neverLoaded = true
	s := simulate(sc, sc.trace(1), rules[withOrder])
	if s.loads == 0 || len(s.gaveUp) == 0 || s.gaveUp[0].waited > 2*sc.loadTime {
		t.Fatalf("%d loads; these calls moved on: %v", s.loads, s.gaveUp)
	}
	for _, g := range s.gaveUp {
		if g.waited > 2*g.elsewhere {
			t.Errorf("a call waited for %v, elsewhere it would have waited for %v", g.waited, g.elsewhere)
		}
	}
}

// BenchmarkLoads prints the second table of the README.
func BenchmarkLoads(b *testing.B) {
	table := strings.Builder{}
	for _, sc := range loadScenarios {
		fmt.Fprintf(&table, "| %s |", sc.name)
		for _, name := range []string{withOracle, withOrder, withoutLoads} {
			const seeds = 5
			var average, p99, all float64
			most := 0
			for seed := range uint64(seeds) {
				s := simulate(sc.scenario, sc.trace(seed+1), rules[name])
				average += mean(s.waits).Seconds() / seeds
				p99 += percentile(s.waits, .99).Seconds() / seeds
				all += float64(s.loads) / seeds
				most = max(most, s.mostLoading)
			}
			fmt.Fprintf(&table, " %.1f / %.1f; %.1f, %d at once |", average, p99, all, most)
		}
		fmt.Fprintln(&table)
	}
	fmt.Println(table.String())
	for b.Loop() { // the table is the result
	}
}
