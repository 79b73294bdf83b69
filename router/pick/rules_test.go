package pick

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rules that are compared.
const (
	withOracle   = "oracle"
	withOrder    = "Order"
	withoutLoads = "Order, never loading"
	withTwo      = "the faster of two"
	withFastest  = "the fastest announced"
	withRandom   = "random"
)

type named struct {
	name string
	scenario
}

// scenarios have bursts, one slow box in ten, conversations and single calls.
var scenarios = []named{
	{"3 boxes", scenario{boxes: 3, slots: 4, load: .8, chats: .5, length: 10 * time.Minute}},
	{"10 boxes", scenario{boxes: 10, slots: 4, load: .8, chats: .5, length: 10 * time.Minute}},
	{"10 boxes, high load", scenario{boxes: 10, slots: 4, load: 1.1, chats: .5, length: 10 * time.Minute}},
	{"10 boxes, 1 slot", scenario{boxes: 10, slots: 1, load: .8, chats: .5, length: 20 * time.Minute}},
	{"10 boxes, 16 slots", scenario{boxes: 10, slots: 16, load: .9, chats: .5, length: 4 * time.Minute}},
	{"10 boxes, single calls", scenario{boxes: 10, slots: 4, load: .8, length: 10 * time.Minute}},
	{"100 boxes", scenario{boxes: 100, slots: 4, load: .9, chats: .5, length: 2 * time.Minute}},
	{"100 boxes, single calls", scenario{boxes: 100, slots: 4, load: .8, length: time.Minute}},
	{"100 boxes, single calls, low load", scenario{boxes: 100, slots: 4, load: .6, length: time.Minute}},
	{"100 boxes, 10 get all calls", scenario{boxes: 100, slots: 4, load: .9, chats: .5, entries: 10, length: 2 * time.Minute}},
	{"100 boxes, 10 others get all calls", scenario{boxes: 100, slots: 4, load: .9, chats: .5, gateways: 10, length: 2 * time.Minute}},
	{"1,000 boxes", scenario{boxes: 1000, slots: 4, load: .8, chats: .3, length: 12 * time.Second}},
	{"1,000 boxes, high load", scenario{boxes: 1000, slots: 4, load: 1, chats: .3, length: 12 * time.Second}},
}

// herds reports whether more calls come to a box within a second than any should: twice as
// many as with the oracle.
func herds(s, oracle *simulation) bool { return s.largest > 2*oracle.largest }

// The p99 of the wait, on average over some traces, is within 1.3 times that of an oracle that
// knows all queues. Where that one waits for nothing, 50 ms pass for the boxes that refuse. No
// herd forms. LLMSUP_TEST_LONG adds traces, and the fleets of 1,000 boxes.
func TestSimulation(t *testing.T) {
	for _, sc := range scenarios {
		if sc.boxes > 100 && os.Getenv("LLMSUP_TEST_LONG") == "" {
			continue // it takes seconds
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			best, got, seeds := time.Duration(0), time.Duration(0), 2
			switch long := os.Getenv("LLMSUP_TEST_LONG") != ""; {
			case long:
				seeds = 5
			case sc.chats > 0: // its figures differ less from trace to trace than those of single calls
				seeds = 1
				if sc.boxes == 100 {
					sc.length = time.Minute
				}
			}
			for seed := range seeds {
				trace := sc.trace(uint64(seed + 1))
				oracle, ours := simulate(sc.scenario, trace, rules[withOracle]), simulate(sc.scenario, trace, rules[withOrder])
				best, got = best+percentile(oracle.waits, .99), got+percentile(ours.waits, .99)
				if herds(ours, oracle) {
					t.Errorf("%d calls came to a box within a second, with the oracle %d", ours.largest, oracle.largest)
				}
			}
			if got > best*13/10+time.Duration(seeds)*50*time.Millisecond {
				t.Errorf("p99 of the wait is %v on average, the oracle's %v", got/time.Duration(seeds), best/time.Duration(seeds))
			}
		})
	}
}

// What TestSimulation checks fails with rules that are simpler.
func TestSimplerRules(t *testing.T) {
	i := slices.IndexFunc(scenarios, func(sc named) bool { return sc.name == "100 boxes" })
	sc := scenarios[i].scenario
	sc.length = time.Minute
	trace := sc.trace(1)
	oracle := simulate(sc, trace, rules[withOracle])
	if s := simulate(sc, trace, rules[withFastest]); !herds(s, oracle) || percentile(s.waits, .99) < 10*percentile(oracle.waits, .99) {
		t.Errorf("the box that was the fastest a second ago: %d calls within a second", s.largest)
	}
	for _, simpler := range []string{withRandom, withTwo} {
		if s := simulate(sc, trace, rules[simpler]); percentile(s.waits, .99) < 2*percentile(oracle.waits, .99) || float64(s.fromCaches) > .1*float64(s.prompt) {
			t.Errorf("%s: p99 of the wait is %v, %d of %d tokens are from caches", simpler, percentile(s.waits, .99), s.fromCaches, s.prompt)
		}
	}
}

// BenchmarkSimulation prints the first table of the README:
//
//	go test ./router/pick -run '^$' -bench Simulation -benchtime 1x
func BenchmarkSimulation(b *testing.B) {
	table := strings.Builder{}
	for _, sc := range scenarios {
		for _, name := range []string{withOracle, withOrder, withTwo, withFastest, withRandom} {
			const seeds = 5
			var p99, first, hops, refusals, cached float64
			largest := 0
			for seed := range uint64(seeds) {
				trace := sc.trace(seed + 1)
				s := simulate(sc.scenario, trace, rules[name])
				p99 += percentile(s.waits, .99).Seconds() / seeds
				first += percentile(s.first, .99).Seconds() / seeds
				hops += 100 * float64(s.hops) / float64(len(trace)) / seeds
				refusals += float64(s.refusals) / float64(len(trace)) / seeds
				cached += 100 * float64(s.fromCaches) / float64(max(s.prompt, 1)) / seeds
				largest = max(largest, s.largest)
			}
			fmt.Fprintf(&table, "| %s | %s | %.2f | %.2f | %d | %.0f %% | %.2f | %.0f %% |\n", sc.name, name, p99, first, largest, hops, refusals, cached)
		}
	}
	fmt.Println(table.String())
	for b.Loop() { // the table is the result
	}
}
