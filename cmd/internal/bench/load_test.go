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
	"sync/atomic"
	"testing"
	"time"
)

// newRequest writes a chat completion of about size bytes: words, with the quotes
// and escapes that text has.
func newRequest(size int) []byte {
	words := strings.Repeat(`The \"quick\" brown fox\njumps over the lazy dog. `, max(size-100, 50)/50)
	return request("bench", fmt.Sprintf(`{"model":%q,"max_tokens":100,"messages":[{"role":"user","content":"%s"}]}`, model, words))
}

func newStreamRequest(chunks int) []byte {
	return request(fmt.Sprintf("stream %d", chunks), fmt.Sprintf(`{"model":%q,"stream":true,"messages":[{"role":"user","content":"Count."}]}`, model))
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

// settle is how long a proxy may take to write down what it has to about calls that
// have ended: that is a part of what they cost, and of no others.
const settle = 150 * time.Millisecond

// warmUp is how many calls a client sends before those that are measured.
func warmUp(calls int) int { return max(calls/10, 1) }

// cpuOfCalls returns what a call costs a proxy, in microseconds, once connections
// and caches are warm.
func cpuOfCalls(t *testing.T, p *target, request []byte, clients, calls int) float64 {
	t.Helper()
	var before time.Duration
	var warm sync.WaitGroup
	warm.Add(clients)
	begin := make(chan struct{})
	go func() {
		warm.Wait()
		time.Sleep(settle)
		before = p.cpu(t)
		close(begin)
	}()
	each(t, p, clients, func(c *client) error {
		err := c.calls(request, warmUp(calls/clients))
		warm.Done()
		<-begin
		return errors.Join(err, c.calls(request, calls/clients))
	})
	time.Sleep(settle)
	return micros(p.cpu(t)-before) / float64(calls/clients*clients)
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

// streams is what was seen of streams that ran at the same time.
type streams struct {
	cpu    float64      // a chunk, in microseconds, while all of them were open
	memory float64      // VmRSS in MB, while all of them were open
	delays distribution // of chunks from the upstream's writing to the client's reading, in microseconds
}

// pacedStreams opens streams of some chunks each, and sees that each brings all
// of them, in order, and its end.
func pacedStreams(t *testing.T, p *target, count, chunks int) streams {
	t.Helper()
	var s streams
	var mu sync.Mutex
	var received atomic.Int64
	// While the first and the last tenth pass, streams still open or have ended.
	lead := chunks / 10
	request := newStreamRequest(chunks)
	var opened sync.WaitGroup
	opened.Add(count)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		opened.Wait()
		before, from := p.cpu(t), received.Load()
		time.Sleep(pace * time.Duration(chunks-3*lead))
		s.cpu = micros(p.cpu(t)-before) / float64(received.Load()-from)
		s.memory = p.memory(t, "VmRSS")
	}()
	each(t, p, count, func(c *client) error {
		delays, err := c.stream(request, chunks, lead, opened.Done, &received)
		mu.Lock()
		defer mu.Unlock()
		s.delays = append(s.delays, delays...)
		return err
	})
	<-watched
	return s
}

// stream sends a request for a stream and reads it to its end. Of the first
// chunks only their order counts; then it says that it is under way.
func (c *client) stream(request []byte, chunks, lead int, underWay func(), received *atomic.Int64) (delays distribution, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	length, _, err := readHead(c.in)
	if err != nil {
		return nil, err
	}
	if length >= 0 {
		return nil, fmt.Errorf("an answer of %d bytes instead of a stream", length)
	}
	lines := bufio.NewReaderSize(httputil.NewChunkedReader(c.in), 4<<10)
	contentAt := strings.Index(chunkFormat, "%08d")
	createdAt := strings.Index(chunkFormat, "%019d") + len("00000000") - len("%08d")
	delays = make(distribution, 0, chunks-lead)
	for n := 0; n < chunks; {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("after %d of %d chunks: %w", n, chunks, err)
		}
		if len(line) == 1 {
			continue
		}
		if len(line) < createdAt+19 {
			return nil, fmt.Errorf("chunk %d is %q", n, line)
		}
		number, err1 := strconv.Atoi(string(line[contentAt : contentAt+8]))
		sent, err2 := strconv.ParseInt(string(line[createdAt:createdAt+19]), 10, 64)
		if err := errors.Join(err1, err2); err != nil || number != n {
			return nil, fmt.Errorf("chunk %d is %q", n, line)
		}
		if n >= lead {
			delays = append(delays, micros(time.Since(epoch)-time.Duration(sent)))
		}
		received.Add(1)
		if n++; n == lead {
			underWay()
		}
	}
	rest, err := io.ReadAll(lines)
	if err != nil {
		return nil, fmt.Errorf("after its last chunk: %w", err)
	}
	if !bytes.HasSuffix(rest, []byte(finishEvent+endEvent)) {
		return nil, fmt.Errorf("the stream ends in %q", rest)
	}
	return delays, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
