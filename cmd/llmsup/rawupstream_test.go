package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

// rawUpstream is an upstream on raw sockets that sends exactly the bytes of its script,
// and counts the tokens that it has generated for each model.
type rawUpstream struct {
	url    string
	script func(body gjson.Result, send func(string), gone <-chan struct{}) (tokens int)

	mu     sync.Mutex
	tokens map[string]int // by the name of the model
	calls  map[string]int
}

func newRawUpstream(t *testing.T, script func(body gjson.Result, send func(string), gone <-chan struct{}) int) *rawUpstream {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &rawUpstream{url: "http://" + socket.Addr().String(), script: script, tokens: map[string]int{}, calls: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = socket.Close()
		serving.Wait()
	})
	return c
}

// serve answers the one call of a connection.
func (c *rawUpstream) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	if request.Method == http.MethodGet { // its list of models: there is none
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return
	}
	body := gjson.ParseBytes(raw)
	gone := make(chan struct{})
	go func() {
		_, _ = in.ReadByte() // returns when llmsup closes the connection
		close(gone)
	}()
	model := body.Get("model").Str
	c.mu.Lock()
	c.calls[model]++
	c.mu.Unlock()
	tokens := c.script(body, func(text string) { _, _ = io.WriteString(conn, text) }, gone)
	c.mu.Lock()
	c.tokens[model] += tokens
	c.mu.Unlock()
	_ = conn.Close()
	<-gone
}

// generated returns how many tokens a model has generated, in how many calls.
func (c *rawUpstream) generated(model string) (tokens, calls int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[model], c.calls[model]
}

// wholeAnswer is a response with some text, and a usage if it is not "".
func wholeAnswer(text, usage string) string {
	if usage != "" {
		usage = `,"usage":` + usage
	}
	body := `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` + text + `"},"finish_reason":"stop"}]` + usage + `}`
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
}

// streamHead and tokenEvents are a stream's response up to some tokens. Its end is
// that of the connection.
const streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

func tokenEvents(n int) string {
	return strings.Repeat(`data: {"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}`+"\n\n", n)
}

const streamEnd = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
