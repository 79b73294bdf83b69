package journal

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/usd"
)

// paidRow is the row of a paid call.
func paidRow(request string, cost usd.Amount) Row {
	return Row{
		Time: time.UnixMilli(1790000000123), Request: request,
		Dimensions: Dimensions{Key: "tool", Route: "gpt-4o", Model: "gpt-4o", Backend: "openrouter", Served: "openai/gpt-4o", Status: 200, Stream: true, Paid: true},
		Prompt:     new(int64(1000)), Cached: new(int64(0)), Completion: new(int64(20)), Cost: &cost,
		FirstAnswer: 300 * time.Millisecond, Duration: time.Second,
	}
}

// fullEntry is an entry with every field set.
func fullEntry(id int64, request string) *Entry {
	r := paidRow(request, usd.Max)
	r.Saved, r.Charged, r.Reason, r.Local, r.LocalPrimary, r.Resumed, r.Partial = new(usd.Amount(1)), new(usd.Amount(2)), "timeout", true, true, true, true
	r.Wait = 200 * time.Millisecond
	e := NewEntry(id, &r)
	e.Ends = []int64{5, 6}
	return e
}

// text is the line of an entry.
func text(e *Entry, kind Kind) string { return string(e.Line(kind).AppendTo(nil)) }

// A line is read as it was written, and its entry is written as encoding/json would.
func TestLineRoundTrip(t *testing.T) {
	odd, empty := paidRow(`"\{}<é`+"\n\u2028", 0), Row{Time: time.UnixMilli(0)}
	for name, e := range map[string]*Entry{"full": fullEntry(1<<62, "r"), "empty": NewEntry(0, &empty), "odd": NewEntry(3, &odd)} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []Kind{RowLine, BeginLine} {
				raw := text(e, kind)
				got, ok := parseLine([]byte(strings.TrimSuffix(raw, "\n")))
				if !ok || got.Kind != kind || got.ID != e.ID {
					t.Fatalf("%s is not read", raw)
				}
				if again := text(got.Entry, kind); again != raw || got.Entry.Dimensions != e.Dimensions || strings.Count(raw, "\n") != 1 {
					t.Errorf("%s is read as %s", raw, again)
				}
				want, err := json.Marshal(e)
				if value := gjson.Get(raw, string(kind)).Raw; err != nil || value != string(want) {
					t.Errorf("an entry is written as %s, want %s", value, want)
				}
			}
		})
	}
}

func TestEndLine(t *testing.T) {
	raw := Line{Kind: EndLine, ID: 7}.AppendTo([]byte("before\n"))
	if want := fmt.Sprintf("before\n"+`{"sum":"%s","end":7}`+"\n", checksum("7")); string(raw) != want {
		t.Fatalf("the line is %s, want %s", raw, want)
	}
	if end, ok := parseLine(raw[len("before\n") : len(raw)-1]); !ok || end.Kind != EndLine || end.ID != 7 {
		t.Errorf("%s is read as %+v", raw, end)
	}
}

func TestLongestLine(t *testing.T) {
	r := Row{Request: strings.Repeat("\x01", 300)}
	r.Key, r.Route, r.Model, r.Backend, r.Served, r.Reason = r.Request, r.Request, r.Request, r.Request, r.Request, r.Request
	if n := len(text(NewEntry(0, &r), RowLine)); n > maxLine {
		t.Errorf("a line may have %d bytes", n)
	}
}

// A line of an earlier version's spill file, as encoding/json wrote it.
func TestOldLine(t *testing.T) {
	const raw = `{"id":8589934593,"time":1790000000123,"first_ms":300,"ms":1000,"request":"r\u003c","key":"tool","route":"gpt-4o","model":"gpt-4o","backend":"openrouter",` +
		`"served":"openai/gpt-4o","status":200,"stream":true,"meant":true,"paid":true,"prompt":1000,"cached":0,"completion":20,"cost":0.000000000005,"saved":1}`
	l, ok := parseLine(fmt.Appendf(nil, `{"sum":"%s","row":%s}`, checksum(raw), raw))
	if !ok {
		t.Fatal("it is not read")
	}
	row := paidRow("r<", 5)
	row.LocalPrimary, row.Saved = true, new(usd.Dollar)
	if got, want := text(l.Entry, RowLine), text(NewEntry(8589934593, &row), RowLine); got != want {
		t.Errorf("it is read as %s, want %s", got, want)
	}
}

func checksum(value string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(value), castagnoli))
}

// FuzzLine reads any value with a correct checksum: a row that is read is one that can
// be written, and is written as it was read.
func FuzzLine(f *testing.F) {
	f.Add([]byte(`{"id":1,"time":2,"ms":3,"request":"r","cost":1.5e-7,"prompt":4}`))
	f.Add(fullEntry(7, "x").appendJSON(nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		l, ok := parseLine(fmt.Appendf(nil, `{"sum":"%s","row":%s}`, checksum(string(value)), value))
		if !ok {
			return
		}
		raw := text(l.Entry, RowLine)
		again, ok := parseLine([]byte(strings.TrimSuffix(raw, "\n")))
		if !ok || again.ID != l.ID || again.Entry.Dimensions != l.Entry.Dimensions || text(again.Entry, RowLine) != raw {
			t.Fatalf("%s is written as %s", value, raw)
		}
	})
}

// BenchmarkLine measures writing and reading a line.
func BenchmarkLine(b *testing.B) {
	r := paidRow("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1_234_567)
	var buffer []byte
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buffer = NewEntry(1<<40, &r).Line(RowLine).AppendTo(buffer[:0])
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := parseLine(buffer[:len(buffer)-1]); !ok {
				b.Fatal("not read")
			}
		}
	})
}
