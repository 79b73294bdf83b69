package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readEvents returns a stream's events in a form that can be compared.
func readEvents(src io.Reader) (events []string, raw string, err error) {
	r := NewEventReader(src)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return events, raw, nil
		}
		if err != nil {
			return events, raw, err
		}
		raw += string(e.Raw)
		events = append(events, fmt.Sprintf("%s|%s", e.Name, e.Data))
	}
}

func TestEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		stream string
		want   []string
	}{
		"LF":              {"data: a\n\ndata: b\n\n", []string{"|a", "|b"}},
		"CRLF":            {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"|a", "|b"}},
		"CR":              {"data: a\r\rdata: b\r\r", []string{"|a", "|b"}},
		"CR, named":       {"event: error\rdata: {}\r\r", []string{"error|{}"}},
		"CR, several":     {"data: a\rdata: b\r: x\rdata\r\r", []string{"|a\nb\n"}},
		"CR, no end":      {"data: a\r\rdata: b\r", []string{"|a", "|b"}},
		"mixed":           {"event: e\rdata: a\r\n\ndata: b\n\r\ndata: c\r\n\rdata: d\n\r", []string{"e|a", "|b", "|c", "|d"}},
		"CR, then CRLF":   {"data: a\r\r\ndata: b\r\r\n", []string{"|a", "|", "|b", "|"}}, // an empty event is not an event
		"empty CR lines":  {"\r\rdata: a\r\r\r", []string{"|", "|", "|a", "|"}},
		"named":           {"event: error\ndata: {}\n\n", []string{"error|{}"}},
		"no space":        {"data:a\n\n", []string{"|a"}},
		"two spaces":      {"data:  a\n\n", []string{"| a"}},
		"several data":    {"data: a\ndata: b\ndata:\ndata: c\n\n", []string{"|a\nb\n\nc"}},
		"comment":         {": ping\n\ndata: a\n\n", []string{"|", "|a"}},
		"comment within":  {": x\ndata: a\n: y\n\n", []string{"|a"}},
		"unknown field":   {"id: 7\nretry: 3\ndata: a\n\n", []string{"|a"}},
		"no end":          {"data: a\n\ndata: b", []string{"|a", "|b"}},
		"empty lines":     {"\n\n\ndata: a\n\n\n", []string{"|", "|", "|", "|a", "|"}},
		"empty":           {"", nil},
		"colon in data":   {"data: {\"a\":1}\n\n", []string{`|{"a":1}`}},
		"without a colon": {"data\n\n", []string{"|"}},
	} {
		t.Run(name, func(t *testing.T) {
			for how, src := range map[string]io.Reader{
				"whole": strings.NewReader(tc.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.stream)),
				"data with EOF": iotest.DataErrReader(strings.NewReader(tc.stream)),
			} {
				got, raw, err := readEvents(src)
				if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
					t.Errorf("%s: events %q, %v; want %q", how, got, err, tc.want)
				}
				if raw != tc.stream {
					t.Errorf("%s: bytes changed: %q", how, raw)
				}
			}
		})
	}
}

func TestEventsLarge(t *testing.T) {
	stream := "data: " + strings.Repeat("x", 1<<20) + "\n\ndata: y\n\n"
	got, raw, err := readEvents(strings.NewReader(stream))
	if err != nil || len(got) != 2 || raw != stream {
		t.Fatalf("%d events, %v", len(got), err)
	}
	endless := io.MultiReader(strings.NewReader("data: "), neverEnding{})
	if _, _, err := readEvents(endless); !errors.Is(err, errEventTooLong) {
		t.Errorf("an endless event: %v", err)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}

func TestEventsBroken(t *testing.T) {
	broken := errors.New("reset")
	src := io.MultiReader(strings.NewReader("data: a\n\ndata: half"), iotest.ErrReader(broken))
	got, _, err := readEvents(src)
	if !errors.Is(err, broken) || fmt.Sprint(got) != fmt.Sprint([]string{"|a"}) {
		t.Errorf("events %q, %v; the half event must not be seen", got, err)
	}
}

// An event is returned as soon as its end has arrived, although LF may follow a CR.
func TestEventsAtOnce(t *testing.T) {
	for name, stream := range map[string]string{"LF": "data: a\n\n", "CRLF": "data: a\r\n\r\n", "CR": "data: a\r\r"} {
		src, w := io.Pipe()
		r := NewEventReader(src)
		go func() { _, _ = io.WriteString(w, stream) }()
		if e, err := r.Next(); err != nil || string(e.Data) != "a" || string(e.Raw) != stream {
			t.Errorf("%s: %q, %v", name, e.Raw, err)
		}
		if r.Buffered() {
			t.Errorf("%s: another event is buffered", name)
		}
		_ = src.Close()
	}
}

// FuzzEvents: events and bytes do not depend on the pieces in which a stream arrives, and
// events do not depend on the line ends.
func FuzzEvents(f *testing.F) {
	f.Add("data: a\n\nevent: x\r\ndata: b\r\n\r\n: c\n\n", uint8(3))
	f.Add("\r\n\n\r\ndata:\n\n", uint8(1))
	f.Add("data: a\r\revent: x\rdata: b\r\r\r\n\rdata: c\r", uint8(1))
	f.Fuzz(func(t *testing.T, stream string, piece uint8) {
		want, raw, err := readEvents(strings.NewReader(stream))
		if err != nil || raw != stream {
			t.Fatalf("bytes changed: %q, %v", raw, err)
		}
		got, raw, err := readEvents(&pieces{strings.NewReader(stream), int(piece)%7 + 1})
		if err != nil || raw != stream || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("in pieces: %q, %v; want %q", got, err, want)
		}
		plain := strings.ReplaceAll(stream, "\r", "")
		want, _, _ = readEvents(strings.NewReader(plain))
		for _, end := range []string{"\r", "\r\n"} {
			other := strings.ReplaceAll(plain, "\n", end)
			got, raw, err := readEvents(&pieces{strings.NewReader(other), int(piece)%7 + 1})
			if err != nil || raw != other || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("with %q: %q, %v; want %q", end, got, err, want)
			}
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	one := `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" 57"}}],"created":1700000000,"id":"chatcmpl-0123456789abcdef","model":"m","object":"chat.completion.chunk"}` + "\n\n"
	stream := strings.Repeat(one, 1000)
	for name, stream := range map[string]string{"LF": stream, "CR": strings.ReplaceAll(stream, "\n", "\r")} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			for b.Loop() {
				for r := NewEventReader(strings.NewReader(stream)); ; {
					if _, err := r.Next(); err != nil {
						break
					}
				}
			}
		})
	}
}

// pieces reads at most n bytes at a time.
type pieces struct {
	io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:min(len(b), p.n)]) }
