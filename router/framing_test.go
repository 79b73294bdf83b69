package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAmbiguousLengthCloses: after a request with both Content-Length and
// Transfer-Encoding the connection is closed: what a proxy in front of llmsup took for a
// part of that request could be read as another request here.
func TestAmbiguousLengthCloses(t *testing.T) {
	const call = `{"model":"local/qwen"}`
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(call), call)
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	const coded = "Transfer-Encoding: chunked\r\n"
	for name, tc := range map[string]struct {
		path, version, header, body string
		closes                      bool
	}{
		"both":                  {"/v1/chat/completions", "1.1", length(3) + coded, chunked, true},
		"both, the other order": {"/v1/chat/completions", "1.1", coded + length(len(chunked)), chunked, true},
		"both, at another path": {"/v1/models", "1.1", length(3) + coded, chunked, true},
		"both, HTTP/1.0":        {"/v1/chat/completions", "1.0", "Connection: keep-alive\r\n" + length(len(call)) + coded, call, true},
		"a length":              {"/v1/chat/completions", "1.1", length(len(call)), call, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newFixture(t, answers, answers)
			conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(waitLimit))
			fmt.Fprintf(conn, "POST %s HTTP/%s\r\nHost: 127.0.0.1\r\n%s\r\n%s", tc.path, tc.version, tc.header, tc.body)
			in := bufio.NewReader(conn)
			answer := func() (closes bool, err error) {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					return false, err
				}
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
				return resp.Close, err
			}
			if closes, err := answer(); err != nil || closes != tc.closes {
				t.Fatalf("the answer says that the connection closes: %t, %v; want %t", closes, err, tc.closes)
			}
			fmt.Fprintf(conn, "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			if _, err := answer(); tc.closes != (err != nil) {
				t.Errorf("another request on the connection: %v", err)
			}
		})
	}
}
