package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// ledgerAndBudgets prints what is wrong with the ledger, and how much of each budget
// is spent.
func (p *page) ledgerAndBudgets(s control.Status) {
	lines := ledgerProblems(s.Ledger)
	for _, b := range s.Budgets {
		lines = append(lines, budgetLine(b))
	}
	if len(lines) > 0 {
		p.line("")
	}
	for _, line := range lines {
		p.sentence("  ", "%s", line)
	}
}

func ledgerProblems(l control.Ledger) (lines []string) {
	switch l.Condition {
	case "", "ok":
	case control.LedgerOff:
		lines = append(lines, "the ledger is off (ledger.enabled: false): costs are not recorded, and budgets start from zero at each start")
	default:
		lag := time.Duration(l.LagSeconds * float64(time.Second)).Round(time.Second)
		lines = append(lines, fmt.Sprintf("the ledger has been %s for %s: %s", l.Condition, lag, printable(l.Reason)))
	}
	if l.Lost > 0 {
		lines = append(lines, fmt.Sprintf("the ledger has dropped %s of calls that cost nothing", plural(l.Lost, "row")))
	}
	if l.Aside != "" {
		lines = append(lines, "the ledger's database was corrupt, and is kept as "+printable(l.Aside))
	}
	return lines
}

func budgetLine(b control.Budget) string {
	if b.Fleet != nil {
		return fleetBudgetLine(b, budgetName(b)+" of the fleet", fmt.Sprintf(", and this box has credit for %s", dollars(b.Fleet.Granted)))
	}
	reserved := ""
	if b.Reserved > 0 {
		reserved = fmt.Sprintf(", %s reserved for running calls", dollars(b.Reserved))
	}
	return fmt.Sprintf("%s: %s of %s USD spent%s, until %s UTC", budgetName(b), dollars(b.Spent), dollars(b.Limit), reserved, b.Ends.UTC().Format("2006-01-02 15:04"))
}

func budgetName(b control.Budget) string {
	if b.Key == "" {
		return b.Period + " budget"
	}
	return b.Period + " budget of key " + printable(b.Key)
}

// fleetBudgetLine describes a limit that the boxes of the fleet share. own is what this box has
// of it; "" = that is not said.
func fleetBudgetLine(b control.Budget, name, own string) string {
	parts := []string{
		fmt.Sprintf("%s: %s of %s USD spent, until %s UTC", name, dollars(b.Spent), dollars(b.Limit), b.Ends.UTC().Format("2006-01-02 15:04")),
		fmt.Sprintf("%s is not granted to a box yet%s", dollars(b.Fleet.Left), own),
	}
	for _, h := range b.Fleet.Gone {
		parts = append(parts, fmt.Sprintf("%s, which is not in the fleet, holds %s, since %s UTC", printable(h.Box), dollars(h.Amount), h.Since.UTC().Format("2006-01-02 15:04")))
	}
	if b.Fleet.Problem != "" {
		parts = append(parts, "no more credit can be had: "+printable(b.Fleet.Problem))
	}
	return strings.Join(parts, "; ")
}
