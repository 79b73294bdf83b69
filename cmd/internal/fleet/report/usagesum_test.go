package report

import (
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestAdd: a sum is null if all values are unknown, as if one ledger had all calls.
func TestAdd(t *testing.T) {
	none := control.Sums{Cost: amount(t, "0"), Saved: amount(t, "0"), Prompt: new(int64(0)), Cached: new(int64(0)), Completion: new(int64(0))}
	unknown := control.Sums{Calls: 2, UnknownCost: 2, UnknownSaved: 2, UnknownTokens: 2}
	known := control.Sums{Calls: 1, Cost: amount(t, "0.5"), Saved: amount(t, "0.25"), Prompt: new(int64(1)), Cached: new(int64(0)), Completion: new(int64(3))}
	for name, tc := range map[string]struct {
		boxes []control.Sums
		known bool
	}{
		"none and unknown": {[]control.Sums{none, unknown}, false}, "unknown and none": {[]control.Sums{unknown, none}, false},
		"unknown and known": {[]control.Sums{unknown, known}, true}, "all": {[]control.Sums{none, unknown, known}, true},
	} {
		var sum control.Sums
		for _, one := range tc.boxes {
			add(&sum, one)
		}
		if (sum.Cost != nil) != tc.known || (sum.Saved != nil) != tc.known || (sum.Prompt != nil) != tc.known || (sum.Completion != nil) != tc.known || sum.UnknownCost != 2 {
			t.Errorf("%s: %+v", name, sum)
		}
		if tc.known && (*sum.Cost != *known.Cost || *sum.Saved != *known.Saved || *sum.Completion != 3) {
			t.Errorf("%s: %+v", name, sum)
		}
	}
}
