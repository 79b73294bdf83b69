package wire

import "testing"

func TestGenericAllFinished(t *testing.T) {
	for name, tc := range map[string]struct {
		body     string
		finished uint64
		want     bool
	}{
		"nothing":       {`{"prompt":"a"}`, 0, false},
		"one":           {`{"prompt":"a"}`, 1, true},
		"infill":        {`{"input_prefix":"a"}`, 1, true},
		"one of two":    {`{"prompt":["a","b"]}`, 2, false},
		"two":           {`{"prompt":["a","b"]}`, 3, true},
		"tokens":        {`{"prompt":[1,2]}`, 1, true},
		"mixed":         {`{"prompt":[1,"a","b"]}`, 1, true},
		"lists":         {`{"prompt":[[1,2],[3]]}`, 1, false},
		"two choices":   {`{"prompt":"a","n":2}`, 1, false},
		"all choices":   {`{"prompt":"a","n_cmpl":2}`, 3, true},
		"choices of 2":  {`{"prompt":["a","b"],"n":2}`, 7, false},
		"all four":      {`{"prompt":["a","b"],"n":2}`, 15, true},
		"no such field": {`{}`, 1, true},
	} {
		if got := (Generic{}).AllFinished([]byte(tc.body), tc.finished); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
