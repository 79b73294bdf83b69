package main

import (
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

func TestFleetBudgetLine(t *testing.T) {
	at := time.Date(2026, 11, 30, 10, 42, 0, 0, time.UTC)
	b := control.Budget{
		Key: "crawler", Period: "daily", Limit: control.USD(5 * usd.Dollar), Spent: control.USD(usd.Dollar), Ends: at.Truncate(24*time.Hour).AddDate(0, 0, 1),
		Fleet: &control.FleetBudget{
			Granted: control.USD(usd.Dollar / 4), Left: control.USD(2 * usd.Dollar), Problem: "NATS is down",
			Gone: []control.HeldBudget{{Box: "box3", Amount: control.USD(usd.Dollar / 2), Since: at}},
		},
	}
	const want = "daily budget of key crawler of the fleet: 1.00 of 5.00 USD spent, until 2026-12-01 00:00 UTC; 2.00 is not granted to a box yet, and this box has credit for 0.2500; " +
		"box3, which is not in the fleet, holds 0.5000, since 2026-11-30 10:42 UTC; no more credit can be had: NATS is down"
	if got := budgetLine(b); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

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
