package ledger

import (
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/usd"
)

// full is an entry with all that an entry can have.
func full(id int64, request string) *entry {
	r := paid(request, usd.Max)
	r.Saved, r.Charged, r.Reason, r.Resumed, r.Partial = new(usd.Amount(1)), new(usd.Amount(2)), "timeout", true, true
	e := newEntry(id, &r)
	e.Ends = []int64{5, 6}
	return e
}

func TestLineIsAwaitImport(t *testing.T) {
	odd, nothing := free(`"\{}`+"\n\u2028"), Row{Time: time.UnixMilli(0)}
	for name, e := range map[string]*entry{"all": full(1<<62, "r"), "nothing": newEntry(0, &nothing), "free": newEntry(3, &odd)} {
		for _, kind := range []lineKind{rowLine, beginLine} {
			text := e.line(kind)
			got, ok := parseLine(text[:len(text)-1])
			if !ok || got.kind != kind {
				t.Fatalf("%s: %s is not read", name, text)
			}
			a, b := string(got.line(kind)), string(text)
			if a != b || got.Dimensions != e.Dimensions || strings.Count(b, "\n") != 1 || !gjson.Valid(b) {
				t.Errorf("%s: %s is read as %s", name, b, a)
			}
		}
	}
	if end, ok := parseLine([]byte(strings.TrimSuffix(string(newEndLine(7)), "\n"))); !ok || end.kind != endLine || end.ID != 7 {
		t.Errorf("%s is read as %+v", newEndLine(7), end)
	}
	r := Row{Request: strings.Repeat("\x01", 300)}
	r.Key, r.Route, r.Model, r.Backend, r.Served, r.Reason = r.Request, r.Request, r.Request, r.Request, r.Request, r.Request
	if n := len(newEntry(0, &r).line(rowLine)); n > maxLine {
		t.Errorf("a line may have %d bytes", n)
	}
}

// A line of an earlier version's spill file, as encoding/json wrote it.
func TestOldLine(t *testing.T) {
	const raw = `{"id":8589934593,"time":1790000000123,"first_ms":300,"ms":1000,"request":"r\u003c","key":"tool","route":"gpt-4o","model":"gpt-4o","backend":"openrouter",` +
		`"served":"openai/gpt-4o","status":200,"stream":true,"meant":true,"paid":true,"prompt":1000,"cached":0,"completion":20,"cost":0.000000000005,"saved":1}`
	l, ok := parseLine(fmt.Appendf(nil, `{"sum":"%s","row":%s}`, checksum(raw), raw))
	want := paid("r<", 5)
	want.Time, want.LocalPrimary, want.Saved = time.UnixMilli(1790000000123), true, new(usd.Dollar)
	if e := newEntry(8589934593, &want); !ok || string(l.line(rowLine)) != string(e.line(rowLine)) {
		t.Errorf("it is read as %s, want %s", l.line(rowLine), e.line(rowLine))
	}
}

func checksum(text string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), castagnoli))
}

// FuzzLine: whatever is in a journal, what is imported is a row that can be written,
// and is written as it was read.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"id":1,"time":2,"ms":3,"request":"r","cost":1.5e-7,"prompt":4}`))
	f.Add(full(7, "x").line(rowLine)[len(`{"sum":"00000000","row":`):])
	f.Fuzz(func(t *testing.T, value []byte) {
		l, ok := parseLine(fmt.Appendf(nil, `{"sum":"%s","row":%s}`, checksum(string(value)), value))
		if !ok {
			return
		}
		text := l.line(rowLine)
		again, ok := parseLine(text[:len(text)-1])
		if !ok || again.ID != l.ID || again.Dimensions != l.Dimensions || string(again.line(rowLine)) != string(text) {
			t.Fatalf("%s is written %s", value, text)
		}
	})
}

// BenchmarkLine is what a line costs that is written and read back.
func BenchmarkLine(b *testing.B) {
	r := free("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			newEntry(1<<40, &r).line(rowLine)
		}
	})
	text := newEntry(1<<40, &r).line(rowLine)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, ok := parseLine(text[:len(text)-1]); !ok {
				b.Fatal("not read")
			}
		}
	})
}
