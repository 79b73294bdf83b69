package main

import (
	"fmt"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu"
)

// vramBars draws a bar of each GPU's memory: which model holds how much of it, what other
// processes hold, and what is free. Without colours each part has its own character. A
// server looks the same on all GPUs.
func (p *page) vramBars(gpus []control.GPU) {
	servers := map[string]int{}
	for _, g := range gpus {
		for _, part := range g.MemoryParts {
			if _, known := servers[part.Server]; !known && part.Kind == "server" {
				servers[part.Server] = len(servers)
			}
		}
	}
	for _, g := range gpus {
		if g.MemoryParts != nil {
			p.vramBar(g, servers)
		}
	}
}

// minBar and maxBar bound the columns of a bar.
const (
	minBar = 20
	maxBar = 100
)

// vramBar draws the bar of one GPU, and below it what each part is. servers are their places
// in the order of colours and letters.
func (p *page) vramBar(g control.GPU, servers map[string]int) {
	name := fmt.Sprintf("GPU %d", g.Index) + columnGap
	indent := spaces(columns(name))
	room := max(min(p.width()-columns(indent), maxBar), minBar)
	bar, legend, used := name, indent, columns(indent)
	var lines []string
	for i, width := range apportion(g.MemoryParts, room) {
		part := g.MemoryParts[i]
		style := p.display.partStyle(part.Kind, servers[part.Server])
		bar += style.paint(strings.Repeat(style.fill, width))
		text := " " + partName(part) + " " + gpu.Size(part.Bytes)
		size := columns(style.fill + text + columnGap)
		if used+size-len(columnGap) > p.width() && used > columns(indent) {
			lines = append(lines, legend)
			legend, used = indent, columns(indent)
		}
		legend += style.paint(style.fill) + text + columnGap
		used += size
	}
	p.line("")
	for _, line := range append([]string{bar}, append(lines, legend)...) {
		p.line("%s", strings.TrimRight(line, " "))
	}
}

// partName returns what holds a part of a GPU's memory.
func partName(part control.MemoryPart) string {
	switch part.Kind {
	case "server":
		return printable(part.Server)
	case "foreign":
		return "other processes"
	case "unlisted":
		return "unlisted"
	}
	return printable(part.Kind) // free
}

// partStyle is how a part of a bar is drawn.
type partStyle struct{ fill, color string }

func (s partStyle) paint(text string) string {
	if s.color == "" {
		return text
	}
	return s.color + text + "\x1b[0m"
}

// serverColors are the colours of servers, in the order of the configuration. They do not
// include red, which would look like an alarm.
var serverColors = []string{"\x1b[36m", "\x1b[33m", "\x1b[35m", "\x1b[32m", "\x1b[34m", "\x1b[96m", "\x1b[93m", "\x1b[95m"}

// partStyle returns how a part of a kind is drawn; server is the place of its server. Blocks
// of different colours need a display that has both; elsewhere servers are letters.
func (d display) partStyle(kind string, server int) partStyle {
	blocks := d.color && d.unicode
	s := partStyle{".", "\x1b[90m"} // free
	switch kind {
	case "server":
		s = partStyle{string(rune('A' + server%26)), serverColors[server%len(serverColors)]}
		if blocks {
			s.fill = "█"
		}
	case "foreign":
		s.fill = "x"
		if blocks {
			s.fill = "▒"
		}
	case "unlisted":
		s.fill = "?"
		if blocks {
			s.fill = "░"
		}
	}
	if !d.color {
		s.color = ""
	}
	return s
}

// apportion returns how many columns of a bar each part gets: its share, rounded so that they
// add up to the whole, and at least one.
func apportion(parts []control.MemoryPart, columns int) []int {
	total := uint64(0)
	for _, part := range parts {
		total += part.Bytes
	}
	widths := make([]int, len(parts))
	if total == 0 {
		return widths
	}
	used := 0
	largest := 0
	end := uint64(0)
	for i, part := range parts {
		end += part.Bytes
		widths[i] = max(int(float64(end)/float64(total)*float64(columns)+0.5)-used, 1)
		used += widths[i]
		if widths[i] > widths[largest] {
			largest = i
		}
	}
	widths[largest] = max(widths[largest]-(used-columns), 1) // small parts have more than their share
	return widths
}
