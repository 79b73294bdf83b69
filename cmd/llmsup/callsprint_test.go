package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestPrintCalls: calls with all that a call may have fit 80 columns, and what cannot be
// printed is replaced.
func TestPrintCalls(t *testing.T) {
	usd := control.USD(123_400_000)
	inFlight := control.Call{
		ID: "mx2kfewi:1z4", Time: time.Now(), Key: "crawler", Model: "local/qwen2.5-14b-instruct", Backend: "openrouter", Reason: "saturated",
		Phase: "answering", Completion: new(int64(12_345)), MS: 72_900,
	}
	waiting := control.Call{ID: "mx2kfewi:1z5", Time: time.Now(), Model: "gpt\x1b[31m-4o", Backend: "qwen", Phase: "waiting_for_slot", Place: 12, MS: 900}
	ended := control.Call{
		ID: "mx2kfewi:1z6", Time: time.Now().Add(-90 * time.Second), Key: "crawler", Model: "local/qwen2.5-14b", Backend: "openrouter", Reason: "context_overflow",
		Phase: control.PhaseEnded, Status: 200, Partial: true, Completion: new(int64(188)), MS: 2140, Cost: &usd,
	}
	unknown := ended
	unknown.Cost, unknown.Key, unknown.Reason, unknown.Partial, unknown.Model = nil, "", "", false, ""
	var out bytes.Buffer
	if err := printCalls(&out, control.CallsPage{InFlight: []control.Call{inFlight, waiting}, Calls: []control.Call{ended, unknown}}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if columns(strings.TrimSuffix(line, "\n")) > pageWidth {
			t.Errorf("%d columns: %s", columns(line), line)
		}
	}
	want := strings.TrimPrefix(`
IN FLIGHT  KEY      BACKEND     WHY        STATE      OUT    AGE    ID
local/qwen2.5-14b-instruct
           crawler  openrouter  saturated  answering  12.3k  1m13s  mx2kfewi:1z4
gpt?[31m-4o
                    qwen                   slot #12          900ms  mx2kfewi:1z5

ENDED  KEY      BACKEND     WHY               STATUS   OUT  TIME  USD       AGO
local/qwen2.5-14b
       crawler  openrouter  context_overflow  200 cut  188  2.1s  0.000123  2m
(no such model)
                openrouter                    200      188  2.1s  ?         2m

? unknown.
`, "\n")
	if got := out.String(); got != want {
		t.Errorf("the page is\n%s\nwant\n%s", got, want)
	}
}
