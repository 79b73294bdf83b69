package main

import (
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestPrintModels: what is known of a model and its load is in its row and the sentence below
// the table; what is not known is a dash.
func TestPrintModels(t *testing.T) {
	ago := func(d time.Duration) *time.Time { return new(time.Now().Add(-d)) }
	var out strings.Builder
	err := printModels(&out, []control.Model{
		{
			Name: "qwen2.5-14b", State: "loading", Since: *ago(5 * time.Second), GPUs: []int{0, 1}, SizeBytes: new(uint64(9 << 30)),
			VRAMNeedBytes: new(uint64(11 << 30)), VRAMMeasuredBytes: new(uint64(10 << 30)), LastUsed: ago(3 * time.Minute), LoadSeconds: new(8.04), Calls: 1284,
			Ready: ago(-2900 * time.Millisecond), LoadProgress: new(0.625), Waiting: 2, WaitingSince: ago(7 * time.Second),
		},
		{Name: "new", State: "unloaded", Since: *ago(time.Hour), Reason: "a call loads it"},
	})
	const want = `MODEL        STATE     SIZE     GPU  NEEDS     HELD      IDLE  LOAD  CALLS  WAIT
qwen2.5-14b  loading   9.0 GiB  0,1  11.0 GiB  10.0 GiB  3m    8s    1284   2
new          unloaded  -        -    -         -         -     -     0      0

qwen2.5-14b has been loading for 5s: 62 %, 3s left; 2 calls wait for it, the first for 7s

new has been unloaded for 1h0m: a call loads it
`
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out.String(), want)
	}
}
