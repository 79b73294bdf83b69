//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// newRequest writes a chat completion of about size bytes: words, with the quotes
// and escapes that text has.
func newRequest(size int) []byte {
	words := strings.Repeat(`The \"quick\" brown fox\njumps over the lazy dog. `, max(size-100, 50)/50)
	return request("bench", fmt.Sprintf(`{"model":%q,"max_tokens":100,"messages":[{"role":"user","content":"%s"}]}`, model, words))
}

func newStreamRequest(events int, pace time.Duration) []byte {
	return request(fmt.Sprintf("stream %d %s", events, pace), fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"Count."}]}`, model))
}

func request(agent, body string) []byte {
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nUser-Agent: %s\r\nAccept: application/json\r\n"+
		"Content-Type: application/json\r\nAuthorization: Bearer unused\r\nContent-Length: %d\r\n\r\n%s", agent, len(body), body)
}

// client is one connection, kept alive.
type client struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func dial(p *target) (*client, error) {
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 4<<10), body: make([]byte, len(answerBody))}, nil
}

// call sends a request and reads its answer, which has to be the mock's.
func (c *client) call(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	length, _, err := readHead(c.in)
	if err != nil {
		return err
	}
	if length != len(answerBody) {
		return fmt.Errorf("an answer of %d bytes, want %d", length, len(answerBody))
	}
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return err
	}
	if string(c.body) != answerBody {
		return errors.New("another answer than the upstream's")
	}
	return nil
}

func (c *client) calls(request []byte, n int) error {
	for range n {
		if err := c.call(request); err != nil {
			return err
		}
	}
	return nil
}

// each runs n clients and fails the test with their first error.
func each(t *testing.T, p *target, n int, work func(c *client) error) {
	t.Helper()
	failed := make(chan error, n)
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			c, err := dial(p)
			if err == nil {
				defer c.conn.Close()
				err = work(c)
			}
			if err != nil {
				failed <- err
			}
		})
	}
	clients.Wait()
	select {
	case err := <-failed:
		t.Fatalf("through %s: %v", p.name, err)
	default:
	}
}

// call sends some calls by some clients at once.
func call(t *testing.T, p *target, request []byte, clients, calls int) {
	t.Helper()
	each(t, p, clients, func(c *client) error { return c.calls(request, calls/clients) })
}

// settle waits longer than llmsup takes to commit the rows of ended calls to the ledger's
// database. The measurement waits for this fixed time, so that the commits are part of
// the cost of these calls and not of the next ones; no event outside of llmsup shows them.
func settle() {
	if !*check {
		time.Sleep(1300 * time.Millisecond)
	}
}

// cpuOfCalls returns what a call costs a proxy, in microseconds, once connections
// and caches are warm.
func cpuOfCalls(t *testing.T, p *target, l load) float64 {
	t.Helper()
	var before time.Duration
	var warm sync.WaitGroup
	warm.Add(l.clients)
	begin := make(chan struct{})
	go func() {
		warm.Wait()
		settle()
		before = p.cpu(t)
		close(begin)
	}()
	each(t, p, l.clients, func(c *client) error {
		err := l.run(c, max(l.calls/l.clients/10, 1))
		warm.Done()
		<-begin
		return errors.Join(err, l.run(c, l.calls/l.clients))
	})
	settle()
	return micros(p.cpu(t)-before) / float64(l.calls/l.clients*l.clients)
}

// run makes n calls of the load.
func (l load) run(c *client, n int) error {
	if l.events == 0 {
		return c.calls(l.request, n)
	}
	for range n {
		if err := c.stream(l.request, l.events, nil); err != nil {
			return err
		}
	}
	return nil
}

// latency returns how long calls take when there is one at a time, in microseconds.
func latency(t *testing.T, p *target, request []byte, calls int) distribution {
	t.Helper()
	var took distribution
	each(t, p, 1, func(c *client) error {
		for n := range calls + calls/10 {
			began := time.Now()
			if err := c.call(request); err != nil {
				return err
			}
			if n >= calls/10 {
				took = append(took, micros(time.Since(began)))
			}
		}
		return nil
	})
	return took
}

// memoryOfStreams returns the resident memory of a proxy, in MB, while streams are
// open.
func memoryOfStreams(t *testing.T, p *target, count int) (memory float64) {
	t.Helper()
	const events = 40
	request := newStreamRequest(events, 50*time.Millisecond)
	var halfway sync.WaitGroup
	halfway.Add(count)
	measured := make(chan struct{})
	go func() {
		defer close(measured)
		halfway.Wait()
		memory = p.memory(t)
	}()
	each(t, p, count, func(c *client) error {
		return c.stream(request, events, func(n int) {
			if n == events/2 {
				halfway.Done()
			}
		})
	})
	<-measured
	return memory
}

// stream sends a request for a stream and reads it to its end: all of its events, in
// order, and its end mark. It calls came, if there is one, after each event.
func (c *client) stream(request []byte, events int, came func(n int)) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	length, _, err := readHead(c.in)
	if err != nil {
		return err
	}
	if length >= 0 {
		return fmt.Errorf("an answer of %d bytes instead of a stream", length)
	}
	lines := bufio.NewReaderSize(httputil.NewChunkedReader(c.in), 4<<10)
	numberAt := strings.Index(eventFormat, "%08d")
	for n := 0; n < events; {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", n, events, err)
		}
		if len(line) == 1 {
			continue
		}
		if number, err := strconv.Atoi(string(line[min(numberAt, len(line)):min(numberAt+8, len(line))])); err != nil || number != n {
			return fmt.Errorf("event %d is %q", n, line)
		}
		n++
		if came != nil {
			came(n)
		}
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		return fmt.Errorf("after its last event: %w", err)
	}
	if !bytes.HasSuffix(rest, []byte(finishEvent+endEvent)) {
		return fmt.Errorf("the stream ends in %q", rest)
	}
	// The chunked reader leaves the empty line after the last chunk, which there is
	// with or without trailers.
	_, err = c.in.Discard(len("\r\n"))
	return err
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
