package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/router/request"
)

// TestLateBodyWriteIsIsolated: an upstream that answers before it has read the body leaves
// net/http writing after the call has ended. What net/http writes then is still the body
// of that call.
func TestLateBodyWriteIsIsolated(t *testing.T) {
	const calls, parallel = 120, 6
	var upstream sync.WaitGroup
	var early atomic.Int32            // calls that had ended before their body was sent
	var ended [parallel]chan struct{} // receives when a call of a letter has
	for i := range ended {
		ended[i] = make(chan struct{}, calls)
	}
	b := newFixture(t, answers, answers)
	transport(t, b).DialContext = request.WritevDialer(func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe() // nothing is sent before it is read
		upstream.Go(func() {
			if rejectBeforeBody(t, far, func(letter byte) { <-ended[letter-'a'] }) < request.MaxShared/2 {
				early.Add(1)
			}
		})
		return near, nil
	})
	var clients sync.WaitGroup
	for letter := range parallel {
		clients.Go(func() {
			body := `{"text":"` + strings.Repeat(string(rune('a'+letter)), request.MaxShared/2) + `","model":"gpt-4o"}`
			for range calls / parallel {
				if got := b.post(chatPath, body); got.status != http.StatusBadRequest {
					t.Errorf("status %d: %s", got.status, got.body)
				}
				ended[letter] <- struct{}{}
			}
		})
	}
	clients.Wait()
	upstream.Wait()
	if early.Load() == 0 {
		t.Error("every body had been sent when the call ended: the test tested nothing")
	}
}

// rejectBeforeBody rejects a request after its head, waits until its call has ended, and
// reads its body to the end. It returns how many bytes that were.
func rejectBeforeBody(t *testing.T, conn net.Conn, await func(letter byte)) int {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 4<<10)
	for line := "-"; line != "\r\n"; {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			t.Error(err)
			return 0
		}
	}
	const refusal = `{"error":{"message":"no"}}`
	fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(refusal), refusal)
	if _, err := in.Discard(len(`{"text":"`)); err != nil {
		return 0
	}
	whose, err := in.ReadByte()
	if err != nil {
		return 0
	}
	await(whose)
	for n := 1; ; n++ {
		c, err := in.ReadByte()
		if err != nil {
			return n
		}
		if c == '"' {
			_, _ = io.Copy(io.Discard, in) // up to the connection's end
			return n
		}
		if n%(16<<10) == 0 { // slower than later calls come
			time.Sleep(time.Millisecond)
		}
		if c != whose {
			t.Errorf("byte %d of a body of %q is %q", n, whose, c)
			return n
		}
	}
}
