//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// table collects the measures of all rounds.
type table struct{ rows []*row }

type row struct {
	measure, unit string
	goal          float64              // a ratio, or MB; 0 = none is set
	values        map[string][]float64 // by target, in the order of their pairs
}

func (t *table) add(measure, unit string, goal float64, p *target, value float64) {
	i := slices.IndexFunc(t.rows, func(r *row) bool { return r.measure == measure })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &row{measure: measure, unit: unit, goal: goal, values: map[string][]float64{}})
	}
	t.rows[i].values[p.name] = append(t.rows[i].values[p.name], value)
}

// text is the table as people read it, and as README has it.
func (t *table) text(base, tested string) string {
	lines := [][]string{{"measure", base, tested, "ratio", "goal"}}
	for _, r := range t.rows {
		figure := func(of string) string { return fmt.Sprintf("%.1f %s", median(r.values[of]), r.unit) }
		goal := ""
		switch {
		case r.goal > 0 && r.unit == "MB":
			goal = fmt.Sprintf("< %g MB", r.goal)
		case r.goal > 0:
			goal = fmt.Sprintf("<= %g", r.goal)
		}
		// Pair by pair, since what else the machine does changes from one to the next.
		var ratios []float64
		for i, v := range r.values[tested] {
			ratios = append(ratios, v/r.values[base][i])
		}
		ratio := fmt.Sprintf("%.2f", middle(ratios))
		if strings.HasPrefix(r.measure, "added delay") { // of differences that may be below 0
			ratio = ""
		}
		lines = append(lines, []string{r.measure, figure(base), figure(tested), ratio, goal})
	}
	widths := make([]int, len(lines[0]))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, cells := range lines {
		for i, cell := range cells {
			fmt.Fprintf(&b, "| %-*s ", widths[i], cell)
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString("| --- | ---: | ---: | ---: | --- |\n")
		}
	}
	return b.String()
}

// words are one target's figures in a line.
func (t *table) words(of string) string {
	var words []string
	for _, r := range t.rows {
		words = append(words, fmt.Sprintf("%s %.0f %s", r.measure, median(r.values[of]), r.unit))
	}
	return strings.Join(words, "; ")
}

func median(values []float64) float64 { return distribution(slices.Clone(values)).at(0.5) }

// middle is the mean of the middle half: as deaf to what else a machine does as the
// median, and of as many measurements nearly as exact as the mean.
func middle(values []float64) (mean float64) {
	d := slices.Sorted(slices.Values(values))
	d = d[len(d)/4 : len(d)-len(d)/4]
	for _, v := range d {
		mean += v / float64(len(d))
	}
	return mean
}

// distribution is a set of measurements.
type distribution []float64

// at returns the quantile q. It sorts.
func (d distribution) at(q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}
