package pick

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rules that are compared.
const (
	withOracle   = "oracle"
	withPatience = "Order and Patience"
	withOrder    = "Order alone"
	withFastest  = "fastest announced"
	withRandom   = "random"
)

// scenarios have bursts, one slow box in ten, conversations and single calls.
var scenarios = []struct {
	name string
	scenario
}{
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
	{"1000 boxes", large},
}

// large is a fleet whose simulation takes seconds.
var large = scenario{boxes: 1000, slots: 4, load: .8, chats: .3, length: 12 * time.Second}

// herds reports whether more calls come to a box within a second than any should: twice as
// many as with the oracle.
func herds(s, oracle *simulation) bool { return s.largest > 2*oracle.largest }

// The p99 of the wait is within 1.3 times that of an oracle that knows all queues. Where that
// is a fraction of the time that a call takes, it is at most half a second longer. No herd forms.
func TestSimulation(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			trace := sc.trace(1)
			oracle, ours := simulate(sc.scenario, trace, rules[withOracle]), simulate(sc.scenario, trace, rules[withPatience])
			best, got := percentile(oracle.waits, .99), percentile(ours.waits, .99)
			if got > max(best*13/10, min(best, generation/2)+500*time.Millisecond) {
				t.Errorf("p99 of the wait is %v, the oracle's %v", got, best)
			}
			if herds(ours, oracle) {
				t.Errorf("%d calls came to a box within a second, with the oracle %d", ours.largest, oracle.largest)
			}
		})
	}
}

// What TestSimulation checks fails with rules that are simpler.
func TestSimplerRules(t *testing.T) {
	for _, sc := range scenarios {
		if sc.name != "100 boxes" {
			continue
		}
		trace := sc.trace(1)
		oracle := simulate(sc.scenario, trace, rules[withOracle])
		if s := simulate(sc.scenario, trace, rules[withFastest]); !herds(s, oracle) || percentile(s.waits, .99) < 10*percentile(oracle.waits, .99) {
			t.Errorf("the box that was the fastest a second ago: %d calls within a second", s.largest)
		}
		if s := simulate(sc.scenario, trace, rules[withRandom]); percentile(s.waits, .99) < 100*percentile(oracle.waits, .99) || float64(s.fromCaches) > .1*float64(s.prompt) {
			t.Errorf("a random box: p99 of the wait is %v, %d of %d tokens are from caches", percentile(s.waits, .99), s.fromCaches, s.prompt)
		}
		if s := simulate(sc.scenario, trace, rules[withOrder]); percentile(s.waits, .99) < 2*percentile(oracle.waits, .99) {
			t.Errorf("boxes that refuse no call: p99 of the wait is %v", percentile(s.waits, .99))
		}
	}
}

// BenchmarkSimulation prints the table of the README:
//
//	go test ./router/pick -run '^$' -bench Simulation -benchtime 1x
func BenchmarkSimulation(b *testing.B) {
	table, all := strings.Builder{}, slices.Clone(scenarios)
	overloaded := large
	overloaded.load = 1
	all = append(all, all[len(all)-1])
	all[len(all)-1].name, all[len(all)-1].scenario = "1000 boxes, high load", overloaded
	for _, sc := range all {
		trace := sc.trace(1)
		for _, name := range []string{withOracle, withPatience, withOrder, withFastest, withRandom} {
			s := simulate(sc.scenario, trace, rules[name])
			fmt.Fprintf(&table, "| %s | %s | %.2f | %.2f | %.2f | %.2f | %d | %.0f %% | %.2f | %.0f %% |\n", sc.name, name,
				percentile(s.waits, .9).Seconds(), percentile(s.waits, .99).Seconds(), percentile(s.first, .5).Seconds(), percentile(s.first, .99).Seconds(),
				s.largest, 100*float64(s.hops)/float64(len(trace)), float64(s.refusals)/float64(len(trace)), 100*float64(s.fromCaches)/float64(max(s.prompt, 1)))
		}
	}
	fmt.Println(table.String())
	for b.Loop() { // the table is the result
	}
}
