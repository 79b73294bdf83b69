package main

import (
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func TestMoneyOfStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		ledger control.Ledger
		want   string
	}{
		"well":     {control.Ledger{Condition: "ok"}, ""},
		"off":      {control.Ledger{Condition: control.LedgerOff}, "the ledger is off ("},
		"spilling": {control.Ledger{Condition: "spilling", Reason: "no room", LagSeconds: 90}, "the ledger has been spilling for 1m30s: no room"},
	} {
		var out strings.Builder
		(&page{out: &out}).ledgerAndBudgets(control.Status{Ledger: tc.ledger})
		if got := strings.TrimSpace(out.String()); !strings.HasPrefix(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
