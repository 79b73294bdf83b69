package backend

import "testing"

// TestBillable: a 503 that came late and without Retry-After may have been billed, and so
// may a timeout of a gateway; an upstream's own 500 is not.
func TestBillable(t *testing.T) {
	for status, want := range map[int]bool{503: true, 500: false, 504: true} {
		f := &Failure{Phase: Generating, Response: &Response{Status: status}}
		if f.Billable() != want {
			t.Errorf("%d: billable %t", status, !want)
		}
	}
}
