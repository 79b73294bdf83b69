package gpu

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/prometheus/procfs"
)

// Size formats a number of bytes: 16.1 GiB, 180 MiB. go-humanize has no such format:
// IBytes rounds to 16 GiB, too coarse to compare with what a model needs, and IBytesN
// to three digits writes 8.00 GiB beside 16.1 GiB.
func Size(bytes uint64) string {
	if mib := (bytes + 1<<19) >> 20; mib < 1<<10 {
		return fmt.Sprintf("%d MiB", mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// programOf names a process's program, as ps does; "" where it can't be seen, as
// from within a container.
func programOf(pid int) string {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return ""
	}
	name, err := p.Comm()
	if err != nil {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// xidName says what the better known errors are about.
//
// Source: "XID Errors", NVIDIA's documentation.
func xidName(xid uint64) string {
	switch xid {
	case 48:
		return " (a memory error that could not be corrected)"
	case 62, 119, 120:
		return " (its own processor has stopped)"
	case 63, 64:
		return " (memory rows are being replaced)"
	case 74:
		return " (an error of NVLink)"
	case 79:
		return " (it has fallen off the bus)"
	case 94, 95:
		return " (a memory error that was caught)"
	}
	return ""
}
