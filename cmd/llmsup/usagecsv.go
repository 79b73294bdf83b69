package main

import (
	"encoding/csv"
	"io"
	"strconv"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// writeUsageCSV writes a line each group, under one with the columns' names, which
// are JSON's. What is not known is empty.
func writeUsageCSV(out io.Writer, u control.Usage, by string) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{ // what it says, Flush's error says too
		by, "calls", "failed", "local", "paid", "resumed", "partial", "prompt_tokens", "cached_tokens", "completion_tokens", "unknown_tokens",
		"cost_usd", "unknown_cost", "saved_usd", "unknown_saved",
	})
	for _, g := range u.Groups {
		_ = w.Write([]string{
			printable(g.Name), digits(g.Calls), digits(g.Failed), digits(g.Local), digits(g.Paid), digits(g.Resumed), digits(g.Partial),
			orEmpty(g.Prompt), orEmpty(g.Cached), orEmpty(g.Completion), digits(g.UnknownTokens),
			exactly(g.Cost), digits(g.UnknownCost), exactly(g.Saved), digits(g.UnknownSaved),
		})
	}
	w.Flush()
	return w.Error()
}

func digits(n int64) string { return strconv.FormatInt(n, 10) }

func orEmpty(n *int64) string {
	if n == nil {
		return ""
	}
	return digits(*n)
}

func exactly(a *control.USD) string {
	if a == nil {
		return ""
	}
	return usd.Amount(*a).String()
}
