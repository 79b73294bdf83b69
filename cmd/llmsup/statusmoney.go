package main

import (
	"fmt"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// moneyOf writes what is wrong with the ledger, and how budgets stand.
func (p *page) moneyOf(s control.Status) {
	var lines []string
	l := s.Ledger
	switch l.Condition {
	case "", "ok":
	case control.LedgerOff:
		lines = append(lines, "the ledger is off (ledger.enabled: false): what calls cost is written down nowhere, and budgets begin anew at each start")
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
	for _, b := range s.Budgets {
		of := b.Period + " budget"
		if b.Key != "" {
			of += " of key " + printable(b.Key)
		}
		held := ""
		if b.Reserved > 0 {
			held = fmt.Sprintf(", %s set aside for running calls", dollars(b.Reserved))
		}
		lines = append(lines, fmt.Sprintf("%s: %s of %s USD spent%s, until %s UTC", of, dollars(b.Spent), dollars(b.Limit), held, b.Ends.UTC().Format("2006-01-02 15:04")))
	}
	if len(lines) > 0 {
		p.line("")
	}
	for _, line := range lines {
		p.sentence("  ", "%s", line)
	}
}
