package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
	"github.com/llmsup/llmsup/router/usd"
)

// printable replaces control characters, so that what llama-server or a client sent
// cannot control the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// since returns how long ago a time was.
func since(t time.Time) string { return duration(time.Since(t)) }

// until returns how long it is until a time; 0s = it is over.
func until(t time.Time) string { return duration(max(time.Until(t), 0)) }

func duration(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// percent returns a part in percent. Only the whole is 100 %, and only zero is 0 %.
func percent(part, all int64) string {
	switch {
	case all == 0:
		return "-"
	case part > 0 && 100*part < all:
		return "<1 %"
	}
	return fmt.Sprintf("%d %%", 100*part/all)
}

// abbreviate prints a number of tokens in at most six characters.
func abbreviate(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprint(n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1fk", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1fG", float64(n)/1e9)
}

// dollars prints an amount to the cent, and a small one with more digits.
func dollars(a control.USD) string {
	switch amount := usd.Amount(a); {
	case amount == 0:
		return "0"
	case amount < usd.Dollar/1_000_000:
		return "<0.000001"
	case amount < usd.Dollar/100:
		return fmt.Sprintf("%.6f", amount.Float())
	case amount < usd.Dollar:
		return fmt.Sprintf("%.4f", amount.Float())
	default:
		return fmt.Sprintf("%.2f", amount.Float())
	}
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func orNA(s string) string {
	if s == "" {
		return "n/a"
	}
	return s
}

func sizeOrNA(bytes *uint64) string {
	if bytes == nil {
		return "n/a"
	}
	return gpu.Size(*bytes)
}

func valueOrNA[N int | int64](n *N, unit string) string {
	if n == nil {
		return "n/a"
	}
	return fmt.Sprint(*n) + unit
}
