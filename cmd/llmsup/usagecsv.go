package main

import (
	"encoding/csv"
	"io"
	"strconv"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// writeUsageCSV writes a header and one line per group. The columns have the names of
// the JSON fields; an unknown value is empty.
func writeUsageCSV(out io.Writer, u control.Usage, by string) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{ // Flush returns the error
		by, "calls", "failed", "local", "paid", "resumed", "partial", "prompt_tokens", "cached_tokens", "completion_tokens", "unknown_tokens",
		"cost_usd", "unknown_cost", "saved_usd", "unknown_saved",
	})
	for _, g := range u.Groups {
		_ = w.Write([]string{
			printable(g.Name), decimal(g.Calls), decimal(g.Failed), decimal(g.Local), decimal(g.Paid), decimal(g.Resumed), decimal(g.Partial),
			decimalOrEmpty(g.Prompt), decimalOrEmpty(g.Cached), decimalOrEmpty(g.Completion), decimal(g.UnknownTokens),
			exactUSD(g.Cost), decimal(g.UnknownCost), exactUSD(g.Saved), decimal(g.UnknownSaved),
		})
	}
	w.Flush()
	return w.Error()
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func decimalOrEmpty(n *int64) string {
	if n == nil {
		return ""
	}
	return decimal(*n)
}

func exactUSD(a *control.USD) string {
	if a == nil {
		return ""
	}
	return usd.Amount(*a).String()
}
