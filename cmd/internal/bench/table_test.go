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
	target        float64              // a ratio, or MB; 0 = none is set
	values        map[string][]float64 // by target, in the order of their pairs
}

func (t *table) add(measure, unit string, aim float64, p *target, value float64) {
	i := slices.IndexFunc(t.rows, func(r *row) bool { return r.measure == measure })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &row{measure: measure, unit: unit, target: aim, values: map[string][]float64{}})
	}
	t.rows[i].values[p.name] = append(t.rows[i].values[p.name], value)
}

// text is the table as scripts/README.md has it. The first column is the baseline.
func (t *table) text(columns []string) string {
	heads := append([]string{"measure"}, columns...)
	rule := "| --- |"
	for _, column := range columns[1:] {
		head := "ratio"
		if column != llmsupName {
			head += " " + column
		}
		heads = append(heads, head)
	}
	lines := [][]string{append(heads, "target")}
	for range len(lines[0]) - 1 {
		rule += " ---: |"
	}
	for _, r := range t.rows {
		cells := []string{r.measure}
		for _, column := range columns {
			cells = append(cells, fmt.Sprintf("%.1f %s", median(r.values[column]), r.unit))
		}
		for _, column := range columns[1:] {
			// Pair by pair, since what else the machine does changes from one to the next.
			var ratios []float64
			for i, v := range r.values[column] {
				ratios = append(ratios, v/r.values[columns[0]][i])
			}
			cells = append(cells, fmt.Sprintf("%.2f", middle(ratios)))
		}
		target := ""
		switch {
		case r.target > 0 && r.unit == "MB":
			target = fmt.Sprintf("%g MB", r.target)
		case r.target > 0:
			target = fmt.Sprintf("%g", r.target)
		}
		lines = append(lines, append(cells, target))
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
			b.WriteString(rule + "\n")
		}
	}
	return b.String()
}

func median(values []float64) float64 { return distribution(slices.Clone(values)).at(0.5) }

// middle is the mean of the middle half: as robust against what else a machine does
// as the median, and nearly as exact as the mean.
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
