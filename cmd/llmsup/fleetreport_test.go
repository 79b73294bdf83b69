package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// TestFleetNotes: each box that a report lacks is named in a sentence; a box that is alone says
// so in one.
func TestFleetNotes(t *testing.T) {
	joined := &control.Fleet{Box: "a", Joined: true}
	for name, tc := range map[string]struct {
		report control.FleetReport
		want   string
	}{
		"no report of a fleet": {control.FleetReport{}, ""},
		"all":                  {control.FleetReport{Fleet: joined, Answered: []string{"a", "b"}}, ""},
		"missing": {
			control.FleetReport{Fleet: joined, Answered: []string{"a"}, Missing: []control.MissingBox{{Box: "b", Why: "has not answered within 2s"}, {Box: "c", Why: "says \x1b[31m"}}},
			"the sums lack b: it has not answered within 2s\nthe sums lack c: it says ?[31m",
		},
		"one box": {control.FleetReport{Fleet: joined, Answered: []string{"a"}}, "the fleet has one box, a"},
		"alone": {
			control.FleetReport{Fleet: &control.Fleet{Box: "a", Problem: "no server"}, Answered: []string{"a"}, Missing: []control.MissingBox{{Box: "b", Why: "was not asked"}}},
			"the sums lack all boxes but this one (a), which is not in its fleet: no server",
		},
		"a problem": {control.FleetReport{Fleet: &control.Fleet{Box: "a", Joined: true, Problem: "p"}, Answered: []string{"a", "b"}}, "fleet: this box is a, but p"},
	} {
		if got := strings.Join(fleetNotes(tc.report, sumsLack), "\n"); got != tc.want {
			t.Errorf("%s: %q, not %q", name, got, tc.want)
		}
	}
}

// TestPrintFleet: the reports of a fleet fit 80 columns.
func TestPrintFleet(t *testing.T) {
	since := time.Now().Add(-time.Hour)
	status := control.Status{
		Servers:   []control.Server{{Name: "qwen2.5-14b-instruct", State: "degraded", Since: since, Reason: "hot", Slots: 4, Busy: 3, CtxSize: 8192}},
		GPUs:      []control.GPU{{Name: "NVIDIA GeForce RTX 4090", Health: "degraded", Reason: "hot"}},
		Upstreams: []control.Upstream{{Name: "openrouter", Reason: "no key"}}, Ledger: control.Ledger{Condition: control.LedgerOff},
		Budgets: []control.Budget{{Period: "daily", Limit: *amount(5), Spent: *amount(1)}, {Period: "monthly", Limit: *amount(50), Spent: *amount(11), Fleet: &control.FleetBudget{}}},
	}
	other := control.Status{
		TLS:     &control.TLS{Problem: "the certificate has expired"},
		Budgets: []control.Budget{{Period: "monthly", Limit: *amount(50), Spent: *amount(10), Fleet: &control.FleetBudget{Problem: "NATS is slow"}}},
		Fleet: &control.Fleet{Box: "gpu2", Joined: true, Problem: "the bucket stores nothing", Foreign: []string{"gpu9"}, Configuration: &control.FleetConfiguration{
			Problem: "the box refuses version 8", UnknownTargets: []string{"routes.m: no box has it"},
		}},
	}
	status.Fleet = &control.Fleet{Box: "gpu1", Joined: true, Configuration: &control.FleetConfiguration{UnknownTargets: []string{"routes.m: no box has it"}}}
	joined := &control.Fleet{Box: "gpu1", Joined: true}
	all := control.FleetReport{Fleet: joined, Answered: []string{"gpu1", "gpu2"}}
	figures := figures(3, 2, amount(0.5), amount(0.25))
	for name, tc := range map[string]struct {
		print func(out *bytes.Buffer) error
		want  string
	}{
		"status": {
			func(out *bytes.Buffer) error {
				return printFleetStatus(out, control.FleetStatus{Inflight: 3, Boxes: []control.BoxStatus{{Box: "gpu1", Status: status}, {Box: "gpu2", Status: other}}, FleetReport: all}, display{terminal: true})
			},
			`2 boxes, 3 calls in flight

SERVER                BOX   STATE     FOR   RESTARTS  BUSY    QUEUED  CONTEXT
qwen2.5-14b-instruct  gpu1  degraded  1h0m  0         3 of 4  0       8192

GPU                 BOX   HEALTH    VRAM USED  FREE  BUSY  TEMP  POWER
0 GeForce RTX 4090  gpu1  degraded  n/a        n/a   n/a   n/a   n/a

the fleet: monthly budget: 11.00 of 50.00 USD spent, until 0001-01-01 00:00 UTC;
  0 is not granted to a box yet

gpu1: daily budget: 1.00 of 5.00 USD spent, until 0001-01-01 00:00 UTC

gpu1: qwen2.5-14b-instruct is degraded: hot

gpu1: GPU 0 is degraded: hot

gpu1: openrouter is not usable: no key

gpu1: the ledger is off (ledger.enabled: false): costs are not recorded, and
  budgets start from zero at each start

gpu1, gpu2: routes.m: no box has it

gpu2: the certificate has expired

gpu2: monthly budget of the fleet: no more credit can be had: NATS is slow

gpu2: the bucket stores nothing

gpu2: boxes with another fleet's key: gpu9; every box of a fleet needs the same
  key in its key_file, and a second fleet a NATS account of its own

gpu2: the box refuses version 8
`,
		},
		"boxes": {
			func(out *bytes.Buffer) error {
				return printAskedBoxes(out, control.FleetBoxes{FleetReport: all, Boxes: []control.AskedBox{
					{Box: control.Box{This: true, Box: fleet.Box{Name: "gpu1", Version: "1.5", Address: "http://gpu1:8000", ConfigVersion: 7}}, Knows: []string{"gpu2"}},
					{Box: control.Box{Box: fleet.Box{Name: "gpu2", Version: "1.4", Address: "http://gpu2:8000", Drained: true, Models: []fleet.Model{{Name: "qwen", State: "ready"}}}}, AnswerMS: 12, Unaware: []string{"gpu1"}},
				}})
			},
			`BOX     STATE    GPUS  ANSWER  KNOWS     VERSION  CONFIG  ADDRESS
gpu1 *  in use   -     0s      1 other   1.5      7       http://gpu1:8000
gpu2    drained  -     12ms    0 others  1.4      -       http://gpu2:8000

BOX   MODEL  STATE  FREE  QUEUED  TOKENS/S  FIRST TOKEN
gpu2  qwen   ready  -     0       -         -

gpu2 does not know gpu1: one of them may be cut off from a NATS server
`,
		},
		"usage": {
			func(out *bytes.Buffer) error {
				return printUsage(out, control.Usage{
					Total: figures, Groups: []control.UsageGroup{group("local", figures)}, Boxes: []control.UsageGroup{group("gpu1", figures), group("gpu2", control.Sums{})}, FleetReport: all,
				}, "", display{})
			},
			`Usage of 2 boxes (gpu1, gpu2) from 0001-01-01 00:00 to 0001-01-01 00:00 UTC

calls   3
local   66 % were answered by local servers (2)
tokens  3000 in, 30 of them cached; 300 out
paid    0.5000 USD for 1 call
saved   0.2500 USD, what the fallback would have cost

BOX   CALLS  LOCAL    IN  OUT  PAID USD  SAVED USD
gpu1      3   66 %  3000  300    0.5000     0.2500
gpu2      0      -     ?    ?         ?          -

MODEL  CALLS  LOCAL    IN  OUT  PAID USD  SAVED USD
local      3   66 %  3000  300    0.5000     0.2500

No call for a local model was answered elsewhere.

+ and more: unknown for some of the calls.  ? unknown.
`,
		},
		"calls": {
			func(out *bytes.Buffer) error {
				return printCalls(out, control.CallsPage{FleetReport: all, Calls: []control.Call{{Box: "gpu2", Model: "local", Backend: "gpu1/qwen", Phase: control.PhaseEnded, Status: 200, Time: since, Cost: amount(0)}}})
			},
			`ENDED  BOX   BACKEND    STATUS  TIME  USD  AGO
local  gpu2  gpu1/qwen  200     0s    0    1h0m
`,
		},
	} {
		var out bytes.Buffer
		if err := tc.print(&out); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if columns(strings.TrimSuffix(line, "\n")) > pageWidth {
				t.Errorf("%s: %d columns: %s", name, columns(line), line)
			}
		}
		if got := out.String(); got != tc.want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, tc.want)
		}
	}
}
