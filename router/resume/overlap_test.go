package resume

import (
	"strings"
	"testing"
	"time"
)

// A repetition of the text before is removed, in whatever pieces it comes. What is new
// stays, and so does its own space.
func TestOverlapFilter(t *testing.T) {
	const before = " 1, of a list that is long enough"
	for name, tc := range map[string]struct{ before, continuation, finish, want string }{
		"no repetition":                       {before, ", and 2", "stop", ", and 2"},
		"a repetition":                        {before, before + ", and 2", "stop", ", and 2"},
		"without its space":                   {before, strings.TrimSpace(before) + ", and 2", "stop", ", and 2"},
		"with other space":                    {before, "\n\n" + before + ", and 2", "stop", ", and 2"},
		"new, with space":                     {before, "\n\n2", "stop", "\n\n2"},
		"only space":                          {before, " \n", "stop", " \n"},
		"the same beginning, and new":         {before, " 1, of a list that ends", "stop", " 1, of a list that ends"},
		"the same beginning, and an end":      {before, " 1, of a list that is", "stop", " 1, of a list that is"},
		"the same beginning, up to a limit":   {before, " 1, of a list that is", "length", ""},
		"the same, of an Anthropic message":   {before, " 1, of a list that is", "max_tokens", ""},
		"a short same beginning, and a limit": {before, " 1, of", "length", " 1, of"},
		"only a repetition":                   {before, before, "stop", ""},
		"too short to be a repetition":        {" 1 1 1", " 1 1 1 1", "stop", " 1 1 1 1"},
		"a short sentence":                    {"The capital of France", "The capital of France is Paris.", "stop", " is Paris."},
		"nothing":                             {before, "", "stop", ""},
	} {
		for size := 1; size <= len(tc.continuation)+1; size++ {
			f := NewOverlapFilter(tc.before)
			var got strings.Builder
			for rest := tc.continuation; rest != ""; {
				n := min(size, len(rest))
				got.WriteString(f.Filter(rest[:n]))
				rest = rest[n:]
			}
			got.WriteString(f.Flush(tc.finish))
			if got.String() != tc.want {
				t.Errorf("%s, in pieces of %d: %q, want %q", name, size, got.String(), tc.want)
			}
		}
	}
}

// What is held back is not compared again with each piece.
func TestOverlapFilterIsLinear(t *testing.T) {
	before := strings.Repeat("1234567", 1<<20/7)
	f := NewOverlapFilter(before)
	began := time.Now()
	var out strings.Builder
	for at := 0; at < len(before); at += 2 {
		out.WriteString(f.Filter(before[at:min(at+2, len(before))]))
	}
	out.WriteString(f.Filter("new") + f.Flush("stop"))
	if duration := time.Since(began); out.String() != "new" || duration > 20*time.Second {
		t.Errorf("%d bytes after %s", out.Len(), duration)
	}
}
