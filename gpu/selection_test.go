package gpu

import (
	"slices"
	"strings"
	"testing"
)

func TestSelect(t *testing.T) {
	const third = "GPU-aaaa1111-0000-0000-0000-000000000000" // has the same prefix as the first
	box := Sample{GPUs: []GPU{{Index: 0, UUID: first, Name: "A100"}, {Index: 1, UUID: second, Name: "L4"}, {Index: 2, UUID: third, Name: "A100"}}}
	moved := Sample{GPUs: []GPU{{Index: 0, UUID: first, Lost: true}, {Index: 0, UUID: second}}}
	nameless := Sample{GPUs: []GPU{{Index: 0, UUID: first}, {Index: 1, Lost: true}}}
	one := Sample{GPUs: []GPU{{Index: 0, UUID: first}}}
	cases := map[string]struct {
		sample    Sample
		selection string
		want      []string
		err       string // part of the error
	}{
		"all":                             {box, "", []string{first, second, third}, ""},
		"all of none":                     {Sample{}, "", nil, ""},
		"none":                            {box, "none", nil, ""},
		"none of none":                    {Sample{}, "none", nil, ""},
		"an index":                        {box, "1", []string{second}, ""},
		"indexes, in the order given":     {box, "2,0", []string{third, first}, ""},
		"a UUID":                          {box, second, []string{second}, ""},
		"the beginning of a UUID":         {box, "GPU-b", []string{second}, ""},
		"a beginning long enough":         {box, "GPU-aaaa1", []string{third}, ""},
		"mixed":                           {box, "0,GPU-bbbb", []string{first, second}, ""},
		"with spaces":                     {box, "0, 1", []string{first, second}, ""},
		"the same twice":                  {box, "0," + first + ",0", []string{first}, ""},
		"a MIG instance":                  {box, "MIG-3d5c", []string{"MIG-3d5c"}, ""},
		"a MIG instance and a GPU":        {box, "MIG-3d5c,1", []string{"MIG-3d5c", second}, ""},
		"a lost one":                      {Sample{GPUs: []GPU{{Index: 0, UUID: first, Lost: true}}}, "0", []string{first}, ""},
		"all but one that has no UUID":    {nameless, "", []string{first}, ""},
		"a beginning of two":              {box, "GPU-aaaa", nil, "GPU-aaaa is the start of 2 GPUs"},
		"no such index":                   {box, "3", nil, "there is no GPU 3; found: 0 (A100, " + first + "), 1 (L4, " + second + "), 2 ("},
		"an index below":                  {box, "-1", nil, "there is no GPU -1"},
		"no such UUID":                    {box, "GPU-c", nil, "there is no GPU GPU-c"},
		"one good, one bad":               {box, "0,7", nil, "there is no GPU 7"},
		"none among others":               {box, "0,none", nil, "there is no GPU none"},
		"a UUID with more behind it":      {box, first + "0", nil, "there is no GPU " + first + "0"},
		"a box without":                   {Sample{}, "0", nil, "found: none"},
		"a comma too many":                {one, "0,", nil, "an empty entry"},
		"nothing but a space":             {one, " ", nil, "an empty entry"},
		"one that cannot say its UUID":    {nameless, "1", nil, "GPU 1 cannot be reached by the driver"},
		"an index that passed to another": {moved, "0", nil, "use the UUID"},
		"the UUID of one that moved":      {moved, second, []string{second}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := c.sample.Select(c.selection)
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want one with %q", err, c.err)
			}
		})
	}
}
