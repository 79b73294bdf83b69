package gpu

import (
	"fmt"
	"strings"
	"testing"
)

// TestHysteresis runs each reason: b is a bad sample, g a good one, u an unknown one. In
// the verdicts, # means that the reason holds.
func TestHysteresis(t *testing.T) {
	repeat := strings.Repeat
	cases := map[string]struct{ samples, want string }{
		"in after three":            {"bbb", "..#"},
		"and no sooner":             {"bbg", "..."},
		"stays while bad":           {"bbbbbb", "..####"},
		"bad ones in a row":         {"bbgbbgbgbbb", "..........#"},
		"out after ten":             {"bbb" + repeat("g", 12), "..#" + repeat("#", 9) + "..."},
		"good ones in a row":        {"bbb" + repeat("g", 9) + "b" + repeat("g", 10), "..#" + repeat("#", 9) + "#" + repeat("#", 9) + "."},
		"in again after three":      {"bbb" + repeat("g", 10) + "bbb", "..#" + repeat("#", 9) + "." + "..#"},
		"unknown is not bad":        {repeat("u", 20), repeat(".", 20)},
		"unknown is not good":       {"bbb" + repeat("u", 9) + repeat("gu", 5), "..#" + repeat("#", 9) + repeat("##", 5)},
		"unknown for too long":      {"bbb" + repeat("u", 20) + "bbb", "..#" + repeat("#", 9) + repeat(".", 11) + "..#"},
		"unknown on the way in":     {"bubuub", ".....#"},
		"unknown on the way out":    {"bbb" + repeat("gu", 9) + "ug", "..#" + repeat("##", 9) + "#."},
		"unknown, where good ended": {"bbub" + repeat("g", 9) + "u" + "g", "...#" + repeat("#", 9) + "#."},
		"unknown, where bad ended":  {"bbugbbu", "......."},
	}
	policy := DefaultPolicy()
	policy.BusyFor = 0 // TestBusyFor
	for reason, c := range brokenGPUs {
		if reason.immediate() {
			continue // TestXid
		}
		for what, unknown := range c.unknown {
			for name, script := range cases {
				t.Run(fmt.Sprintf("%s/%s/%s", reason, what, name), func(t *testing.T) {
					if reason == Lost && name == "unknown for too long" {
						script.want = "..#" + repeat("#", 23) // until the GPU is found
					}
					j := newPolicyRun(policy)
					j.observe(healthy())
					var got strings.Builder
					for _, letter := range script.samples {
						m := healthy()
						switch letter {
						case 'b':
							c.bad(&m, 0)
						case 'u':
							unknown(&m)
						}
						v := j.observe(m)
						if holds(v, reason) {
							got.WriteByte('#')
						} else {
							got.WriteByte('.')
						}
						for _, f := range v.Conditions {
							if f.Reason != reason && !(f.Reason == Lost && what == "lost") {
								t.Errorf("it also finds %s: %s", f.Reason, f.Message)
							}
						}
					}
					if got.String() != script.want {
						t.Errorf("samples %s\n   give %s\n   want %s", script.samples, &got, script.want)
					}
				})
			}
		}
	}
}

// TestFatal checks when a server's process has to be replaced. b is a bad sample, g a good
// one, s a bad one without a process, n a bad one with another process.
func TestFatal(t *testing.T) {
	cases := map[string]struct {
		samples string
		want    map[Reason]string // # = fatal; only lost and xid can be
	}{
		"reported once":               {"bbbbbbbb", map[Reason]string{Lost: "..#.....", Xid: "########"}},
		"each Xid is another one":     {"bgbggb", map[Reason]string{Lost: "......", Xid: "#.#..#"}},
		"never without a process":     {"ssssssss", map[Reason]string{Lost: "........", Xid: "........"}},
		"not for what was there then": {"bbbsn", map[Reason]string{Lost: "..#..", Xid: "###.#"}},
		"again, after it was well":    {"bbb" + strings.Repeat("g", 10) + "bbb", map[Reason]string{Lost: "..#" + strings.Repeat(".", 10) + "..#", Xid: "###" + strings.Repeat(".", 10) + "###"}},
	}
	policy := DefaultPolicy()
	policy.BusyFor = 0
	for reason, c := range brokenGPUs {
		for name, script := range cases {
			t.Run(string(reason)+"/"+name, func(t *testing.T) {
				j := newPolicyRun(policy)
				j.observe(healthy())
				var got strings.Builder
				for _, letter := range script.samples {
					m := healthy()
					if letter != 'g' {
						c.bad(&m, 0)
					}
					switch letter {
					case 's':
						m.PID, m.PIDs, m.Loaded, m.DeviceOpen = 0, nil, false, false
					case 'n':
						m.PID, m.PIDs = ours+1, []int{ours + 1}
					}
					v := j.observe(m)
					if v.Fatal == nil {
						got.WriteByte('.')
						continue
					}
					got.WriteByte('#')
					if v.Fatal.Reason != reason || v.Fatal.UUID != first || v.Fatal.Message == "" {
						t.Errorf("it ends for %+v", *v.Fatal)
					}
				}
				want := script.want[reason]
				if want == "" {
					want = strings.Repeat(".", len(script.samples))
				}
				if got.String() != want {
					t.Errorf("samples %s\n    ends %s\n    want %s", script.samples, &got, want)
				}
			})
		}
	}
}

// TestFatalIsTheMostSevere checks several conditions at once, in any order of Go's maps.
func TestFatalIsTheMostSevere(t *testing.T) {
	for range 50 {
		j := newPolicyRun(DefaultPolicy())
		for i := range 3 {
			m := healthy()
			m.Server.GPUs = []string{first, second}
			m.lose(1)
			if i == 2 {
				m.Sample.GPUs[0].Xids = []uint64{74}
			}
			v := j.observe(m)
			if i < 2 {
				continue
			}
			if v.Fatal == nil || v.Fatal.Reason != Lost || v.Fatal.UUID != second {
				t.Fatalf("it ends for %+v, want the lost GPU", v.Fatal)
			}
			if len(v.Conditions) != 2 || v.Conditions[0].Reason != Lost || v.Conditions[1].Reason != Xid {
				t.Fatalf("conditions %+v, want lost, then xid", v.Conditions)
			}
		}
	}
}
