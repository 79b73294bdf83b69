package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
)

// days draws a bar for each day, those without a call too, as far as there is room.
func (p *page) days(days []control.UsageGroup) {
	if len(days) == 0 {
		return
	}
	byDay := map[string]control.Sums{}
	var most int64
	for _, d := range days {
		byDay[d.Name] = d.Sums
		most = max(most, d.Calls)
	}
	first, err := time.Parse(time.DateOnly, days[0].Name)
	last, err2 := time.Parse(time.DateOnly, days[len(days)-1].Name)
	if err != nil || err2 != nil { // another version's
		return
	}
	note := ""
	if earliest := last.AddDate(0, 0, 1-pageDays); first.Before(earliest) {
		first, note = earliest, fmt.Sprintf(", the last %d days", pageDays)
	}
	local, other := "#", "."
	if p.look.unicode {
		local, other = "█", "░"
	}
	calls := max(len(fmt.Sprint(most)), len("CALLS"))
	room := int64(max(min(p.width(), pageWidth), 40) - len(time.DateOnly) - 2 - calls - 2)
	p.line("\n%s  %s  %s local %s elsewhere or failed%s", pad("DAY (UTC)", -len(time.DateOnly)), pad("CALLS", calls), local, other, note)
	for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
		name := day.Format(time.DateOnly)
		s := byDay[name]
		p.line("%s", strings.TrimRight(fmt.Sprintf("%s  %s  %s", name, pad(fmt.Sprint(s.Calls), calls), p.look.bar(s, most, room, local, other)), " "))
	}
}

// bar is a day's calls beside those of the busiest one, which fill the room.
func (l look) bar(s control.Sums, most, room int64, local, other string) string {
	if s.Calls == 0 {
		return ""
	}
	length := max((s.Calls*room+most/2)/most, 1)
	green := (s.Local*length + s.Calls/2) / s.Calls
	if l.color {
		return "\x1b[32m" + strings.Repeat(local, int(green)) + "\x1b[33m" + strings.Repeat(other, int(length-green)) + "\x1b[0m"
	}
	return strings.Repeat(local, int(green)) + strings.Repeat(other, int(length-green))
}

// share is a part in percent. Only all is 100 %, and only nothing 0 %.
func share(part, all int64) string {
	switch {
	case all == 0:
		return "-"
	case part > 0 && 100*part < all:
		return "<1 %"
	}
	return fmt.Sprintf("%d %%", 100*part/all)
}

// short writes a number of tokens in a few digits.
func short(n int64) string {
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

// dollars writes an amount to the cent, and a small one as far as it takes.
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
