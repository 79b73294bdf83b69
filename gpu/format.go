package gpu

import "fmt"

// Size formats a number of bytes: 16.1 GiB, 180 MiB. go-humanize has no such format:
// IBytes rounds to 16 GiB, too coarse to compare with what a model needs, and IBytesN
// to three digits writes 8.00 GiB beside 16.1 GiB.
func Size(bytes uint64) string {
	if mib := (bytes + 1<<19) >> 20; mib < 1<<10 {
		return fmt.Sprintf("%d MiB", mib)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// xidName returns what a well-known error means, in brackets; "" for any other.
//
// Source: "XID Errors", NVIDIA's documentation.
func xidName(xid uint64) string {
	switch xid {
	case 48:
		return " (an uncorrectable memory error)"
	case 62, 119, 120:
		return " (the GPU's own processor has stopped)"
	case 63, 64:
		return " (memory rows are being remapped)"
	case 74:
		return " (an NVLink error)"
	case 79:
		return " (it has fallen off the bus)"
	case 94, 95:
		return " (a contained memory error)"
	}
	return ""
}
