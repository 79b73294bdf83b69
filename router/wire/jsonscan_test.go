package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// Scan finds each control character, quote and backslash at every position of a 32-byte
// block and after it.
func TestScan(t *testing.T) {
	for c := range 256 {
		for at := range 70 {
			b := []byte(strings.Repeat("x", 70))
			b[at] = byte(c)
			text := `["` + string(b) + `"]`
			if got, want := Scan([]byte(text), nil), json.Valid([]byte(text)); got != want {
				t.Errorf("byte %#x at %d: valid %t, want %t", c, at, got, want)
			}
		}
	}
}

// Scan reads each escape and each run of backslashes at every position of a block, and at
// the end of the text.
func TestScanEscapes(t *testing.T) {
	for at := range 70 {
		for _, odd := range []string{`\`, `\\`, `\\\`, `\"`, `\\"`, `\\\"`, `\\\\"x`, `\u12aF`, `\u12g0`, `\u12"`, `\x`, "\\\x1f", "\xff\x80", "\x22\x02", "\x20#!"} {
			for _, filling := range []string{"x", `\t`} {
				text := []byte(`["` + strings.Repeat(filling, at) + odd + strings.Repeat(filling, 40) + `"]`)
				for _, end := range []int{len(text), len(text) - 2, len(text) - 40*len(filling) - 2} {
					for _, text := range []string{string(text[:end]), string(text[:end]) + `"]`} {
						if got, want := Scan([]byte(text), nil), json.Valid([]byte(text)); got != want {
							t.Errorf("valid %t, want %t: %s", got, want, text)
						}
					}
				}
			}
		}
	}
}

func TestScanNesting(t *testing.T) {
	for _, depth := range []int{maxNesting - 1, maxNesting, maxNesting + 1} {
		for _, text := range []string{
			strings.Repeat("[", depth) + strings.Repeat("]", depth),
			strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth),
		} {
			if got, want := Scan([]byte(text), nil), json.Valid([]byte(text)); got != want {
				t.Errorf("%d deep: valid %t, want %t", depth, got, want)
			}
		}
	}
}

// FuzzScan compares with other parsers: encoding/json for what is valid, gjson for members.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"model":"local","messages":[{"role":"user","content":"hi"}],"n":-0.0e+10}`, `{"\u006dodel" : "x" , "a":{"b":[1,2,{}]}, "":null}`,
		`[]`, `{}`, ` `, `{"a":01}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`, `{"a":tru}`, `[1,]`, `{"a":1,}`, `[{]}`, `"\ud83d\uDE00"`, `"\u00g0"`, "\"a\x1f\"", "\"\x7f\xff\"",
		`{"a":"\\\\\\\"","b":true,"c":false}`, `[[],{},[[]]]`, `1`, `nulll`, `"\`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got []string
		valid := Scan([]byte(text), func(m Member) { got = append(got, text[m.KeyFrom:m.KeyTo]+text[m.From:m.To]) })
		if want := json.Valid([]byte(text)); valid != want {
			t.Fatalf("valid %t, want %t: %q", valid, want, text)
		}
		object := gjson.Parse(text)
		if !valid || !object.IsObject() {
			return
		}
		var want []string
		object.ForEach(func(key, value gjson.Result) bool { want = append(want, key.Raw+value.Raw); return true })
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("members %q, want %q", got, want)
		}
	})
}

// BenchmarkScan scans a body of 200 KB, as bench.sh sends it.
func BenchmarkScan(b *testing.B) {
	for text, words := range map[string]string{
		"escapes": `The \"quick\" brown fox\njumps over the lazy dog. `, "plain": `The quick brown fox jumps over the very lazy dog!! `,
	} {
		raw := []byte(`{"model":"local","messages":[{"role":"user","content":"` + strings.Repeat(words, 4000) + `"}]}`)
		for name, valid := range map[string]func([]byte) bool{
			"scan": func(s []byte) bool { return Scan(s, nil) }, "gjson": gjson.ValidBytes,
		} {
			b.Run(text+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(raw)))
				for b.Loop() {
					if !valid(raw) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}
