package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// maxDays is how many days the chart shows.
const maxDays = 31

// dayChart draws a bar for each day, including days without a call, up to maxDays.
func (p *page) dayChart(days []control.UsageGroup) {
	if len(days) == 0 {
		return
	}
	byDay := map[string]control.Sums{}
	var busiest int64
	for _, d := range days {
		byDay[d.Name] = d.Sums
		busiest = max(busiest, d.Calls)
	}
	first, err := time.Parse(time.DateOnly, days[0].Name)
	last, err2 := time.Parse(time.DateOnly, days[len(days)-1].Name)
	if err != nil || err2 != nil { // a daemon of another version
		return
	}
	note := ""
	if earliest := last.AddDate(0, 0, 1-maxDays); first.Before(earliest) {
		first, note = earliest, fmt.Sprintf(", the last %d days", maxDays)
	}
	local, other := "#", "."
	if p.display.unicode {
		local, other = "█", "░"
	}
	calls := max(len(fmt.Sprint(busiest)), len("CALLS"))
	room := int64(max(min(p.width(), pageWidth), 40) - len(time.DateOnly) - 2 - calls - 2)
	p.line("\n%s  %s  %s local %s elsewhere or failed%s", padRight("DAY (UTC)", len(time.DateOnly)), padLeft("CALLS", calls), local, other, note)
	for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
		name := day.Format(time.DateOnly)
		s := byDay[name]
		p.line("%s", strings.TrimRight(fmt.Sprintf("%s  %s  %s", name, padLeft(fmt.Sprint(s.Calls), calls), p.display.bar(s, busiest, room, local, other)), " "))
	}
}

// bar draws the calls of a day. The bar of the busiest day is as long as the room.
func (d display) bar(s control.Sums, busiest, room int64, local, other string) string {
	if s.Calls == 0 {
		return ""
	}
	length := max((s.Calls*room+busiest/2)/busiest, 1)
	ofLocal := (s.Local*length + s.Calls/2) / s.Calls
	if d.color {
		return "\x1b[32m" + strings.Repeat(local, int(ofLocal)) + "\x1b[33m" + strings.Repeat(other, int(length-ofLocal)) + "\x1b[0m"
	}
	return strings.Repeat(local, int(ofLocal)) + strings.Repeat(other, int(length-ofLocal))
}
