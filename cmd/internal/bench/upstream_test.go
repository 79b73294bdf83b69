//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

const model = "bench"

// answerBody is what a call that is no stream gets: as llama-server writes it.
const answerBody = `{"choices":[{"finish_reason":"stop","index":0,"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog, and the dog does not mind at all."}}],` +
	`"created":1763900000,"model":"bench","system_fingerprint":"b1-0000000","object":"chat.completion","usage":{"completion_tokens":20,"prompt_tokens":64,"total_tokens":84},` +
	`"id":"chatcmpl-0123456789abcdefghijklmnopqrstuv","timings":{"prompt_n":64,"prompt_ms":20.1,"prompt_per_token_ms":0.314,"predicted_n":20,"predicted_ms":200.5,"predicted_per_token_ms":10.025}}`

// An event has its number in its text.
const (
	eventFormat = `data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" %08d"}}],"created":1763900000,"id":"chatcmpl-0123456789abcdefghijklmnopqrstuv","model":"bench","system_fingerprint":"b1-0000000","object":"chat.completion.chunk"}` + "\n\n"
	streamHead  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	finishEvent = `data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],"created":1763900000,"model":"bench","object":"chat.completion.chunk"}` + "\n\n"
	endEvent    = "data: [DONE]\n\n"
)

// upstream is the mock that all proxies stand before. It speaks just enough
// HTTP for them, so that it costs as little as can be.
type upstream struct{ address string }

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return &upstream{l.Addr().String()}
}

// serve answers the calls of a connection until its other end closes it. What a
// call wants is in a header that proxies pass on: User-Agent, "stream N PACE" for N
// events with a pause of PACE between two.
func serve(conn net.Conn) {
	defer conn.Close()
	whole := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(answerBody), answerBody))
	in := bufio.NewReaderSize(conn, 16<<10)
	for {
		length, agent, err := readHead(in)
		if err != nil {
			return
		}
		if _, err := in.Discard(length); err != nil {
			return
		}
		if wanted, ok := bytes.CutPrefix(agent, []byte("stream ")); ok {
			events, pause, _ := strings.Cut(string(wanted), " ")
			n, err1 := strconv.Atoi(events)
			pace, err2 := time.ParseDuration(pause)
			if errors.Join(err1, err2) != nil || stream(conn, n, pace) != nil {
				return
			}
		} else if _, err := conn.Write(whole); err != nil {
			return
		}
	}
}

// readHead reads the head of a request or an answer: its length (-1 = in chunks)
// and its User-Agent.
func readHead(in *bufio.Reader) (length int, agent []byte, err error) {
	length = -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			return length, agent, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, err
			}
		case bytes.EqualFold(name, []byte("User-Agent")):
			agent = bytes.Clone(bytes.TrimSpace(value))
		}
	}
}

// stream writes each event separately, as servers do. A late event is sent at once, so
// that all streams take the same time.
func stream(conn net.Conn, events int, pace time.Duration) error {
	if _, err := io.WriteString(conn, streamHead); err != nil {
		return err
	}
	next := time.Now()
	var event, out []byte
	for n := range events {
		event = fmt.Appendf(event[:0], eventFormat, n)
		out = append(fmt.Appendf(out[:0], "%x\r\n", len(event)), event...)
		out = append(out, '\r', '\n')
		if _, err := conn.Write(out); err != nil {
			return err
		}
		if pace > 0 {
			next = next.Add(pace)
			time.Sleep(time.Until(next))
		}
	}
	end := finishEvent + endEvent
	_, err := fmt.Fprintf(conn, "%x\r\n%s\r\n0\r\n\r\n", len(end), end)
	return err
}
