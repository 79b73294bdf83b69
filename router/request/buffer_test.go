package request

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
)

// The memory of a body is reused when the call has released it and every reader is
// closed, and not before.
func TestBufferReuse(t *testing.T) {
	b := NewBuffer(minShared + 1)
	if err := b.Fill(strings.NewReader(strings.Repeat("x", minShared+1))); err != nil {
		t.Fatal(err)
	}
	p := Payload{Parts: net.Buffers{b.Bytes[:10], []byte("model"), b.Bytes[15:]}, from: b}
	first, second := AsBody(p.Open()), AsBody(p.Open())
	b.Release()
	for range 2 { // a second Close has no effect
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if users := b.users.Load(); users != 1 {
		t.Errorf("%d users, want 1: a reader is open", users)
	}
	if n, err := first.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("a closed reader gave %d bytes, %v", n, err)
	}
	got, err := io.ReadAll(second)
	if want := strings.Repeat("x", 10) + "model" + strings.Repeat("x", minShared+1-15); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(want))
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if users := b.users.Load(); users != 0 {
		t.Errorf("%d users, want none", users)
	}
}

func TestBufferReadsAll(t *testing.T) {
	for name, size := range map[string]int{"nothing": 0, "one byte": 1, "small": 400, "shared": 200 << 10, "large": MaxShared + 5} {
		t.Run(name, func(t *testing.T) {
			want := bytes.Repeat([]byte("x"), size)
			for _, expected := range []int{1, size + 1} {
				b := NewBuffer(expected)
				if err := b.Fill(iotest.HalfReader(bytes.NewReader(want))); err != nil || !bytes.Equal(b.Bytes, want) {
					t.Errorf("%d bytes, %v, want %d", len(b.Bytes), err, size)
				}
				b.Release()
			}
			broken := NewBuffer(size + 1)
			if err := broken.Fill(io.MultiReader(bytes.NewReader(want), iotest.ErrReader(io.ErrUnexpectedEOF))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v", err)
			}
		})
	}
}

// countedConn counts what is written to a connection.
type countedConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
	text   []byte
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	c.text = append(c.text, b...)
	return len(b), nil
}

func TestGatheringConn(t *testing.T) {
	large := strings.Repeat("x", 200<<10)
	for name, tc := range map[string]struct {
		body   io.Reader
		limit  int64
		writes int
		want   string
	}{
		"a payload, part by part":    {Payload{Parts: net.Buffers{[]byte(large), []byte("y"), []byte(large)}}.Open(), 400<<10 + 1, 3, large + "y" + large},
		"a payload that is too long": {Payload{Parts: net.Buffers{[]byte("ab"), []byte("cd")}}.Open(), 3, 1, "abc"},
		"something else":             {strings.NewReader("abc"), 3, 1, "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := &countedConn{}
			limited := &io.LimitedReader{R: tc.body, N: tc.limit}
			n, err := writevConn{conn}.ReadFrom(limited)
			if err != nil || n != int64(len(tc.want)) || string(conn.text) != tc.want || conn.writes != tc.writes || limited.N != 0 {
				t.Errorf("%d bytes in %d writes, %d left, %v; want %d in %d", n, conn.writes, limited.N, err, len(tc.want), tc.writes)
			}
		})
	}
	conn := &countedConn{}
	if n, err := (writevConn{conn}).ReadFrom(strings.NewReader("without a limit")); err != nil || n != 15 {
		t.Errorf("%d, %v", n, err)
	}
}
