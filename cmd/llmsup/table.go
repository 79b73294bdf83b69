package main

import "strings"

// tableStyle is how the columns of a table are aligned.
type tableStyle int

const (
	numberTable tableStyle = iota // the first column to the left, all others to the right
	wordTable                     // all columns to the left
	textTable                     // as wordTable, and the last column holds text, which is wrapped
)

// minTextColumns is the least width of the last column of a textTable.
const minTextColumns = 24

// columnGap is the space between two columns.
const columnGap = "  "

// table prints rows, the first of which is the header, within the width of the page, without
// characters that control a terminal.
// A first cell that is too long for its column is printed on a line of its own.
// text/tabwriter has no page width, does not wrap, and counts a wide character as one
// column.
func (p *page) table(rows [][]string, style tableStyle) {
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(strings.ReplaceAll(cell, "\t", " "))
		}
	}
	widths := columnWidths(rows, style, p.width())
	for _, row := range rows {
		p.tableRow(row, style, widths)
	}
}

// columnWidths returns the width of each column. The first column gets the space
// that the others leave.
func columnWidths(rows [][]string, style tableStyle, pageWidth int) []int {
	last := len(rows[0]) - 1
	widths := make([]int, last+1)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	others := 0
	for _, w := range widths[1:last] {
		others += len(columnGap) + w
	}
	text := widths[last]
	if style == textTable { // at most its longest word, so that the first column gets its share
		left := pageWidth - columns(rows[0][0]) - others - len(columnGap)
		widths[last] = min(longestWord(rows, last), max(left, minTextColumns))
	}
	room := pageWidth - others - len(columnGap) - widths[last]
	widths[0] = columns(rows[0][0])
	for _, row := range rows {
		if w := columns(row[0]); w <= room {
			widths[0] = max(widths[0], w)
		}
	}
	if style == textTable { // what the first column has left
		widths[last] = min(text, widths[last]+max(room-widths[0], 0))
	}
	return widths
}

// tableRow prints one row.
func (p *page) tableRow(row []string, style tableStyle, widths []int) {
	first, last := row[0], len(row)-1
	if columns(first) > widths[0] {
		for _, line := range wrap(first, p.width(), "  ") {
			p.line("%s", line)
		}
		first = ""
	}
	text := []string{""}
	if style == textTable {
		text = wrap(row[last], widths[last], "")
		row = row[:last]
	}
	line := padRight(first, widths[0])
	for i, cell := range row[1:] {
		if w := widths[i+1]; style == numberTable {
			line += columnGap + padLeft(cell, w)
		} else {
			line += columnGap + padRight(cell, w)
		}
	}
	for i, part := range text {
		if i > 0 {
			line = strings.Repeat(" ", columns(line))
		}
		p.line("%s", strings.TrimRight(line+columnGap+part, " "))
	}
}

// longestWord returns the width of the longest word in a column.
func longestWord(rows [][]string, column int) (longest int) {
	for _, row := range rows {
		for word := range strings.FieldsSeq(row[column]) {
			longest = max(longest, columns(word))
		}
	}
	return longest
}

// padLeft puts spaces before a cell, up to a width.
func padLeft(cell string, width int) string { return spaces(width-columns(cell)) + cell }

// padRight puts spaces after a cell, up to a width.
func padRight(cell string, width int) string { return cell + spaces(width-columns(cell)) }

func spaces(n int) string { return strings.Repeat(" ", max(n, 0)) }
