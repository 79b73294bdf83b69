package boxes

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestDialAny: a name with several addresses is reached as soon as one of them accepts.
func TestDialAny(t *testing.T) {
	refused := errors.New("connection refused")
	// An address that begins with 10 drops packets, one with 11 refuses, one with 12 accepts after
	// 100 ms.
	open := 0
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout) // as net.Dialer
		defer cancel()
		switch strings.Trim(address, "[")[:2] {
		case "10":
			<-ctx.Done()
			return nil, ctx.Err()
		case "11":
			return nil, refused
		}
		time.Sleep(100 * time.Millisecond)
		client, server := net.Pipe()
		open++
		return &countedConn{client, server, &open}, nil
	}
	for name, tc := range map[string]struct {
		host, addresses string // "" = not found
		after           time.Duration
		err             error
	}{
		"an address":             {"12.0.0.1", "", 100 * time.Millisecond, nil},
		"an IPv6 address":        {"[12::1]", "", 100 * time.Millisecond, nil},
		"one":                    {"12.box", "12.0.0.1", 100 * time.Millisecond, nil},
		"the first drops":        {"12.box", "10.0.0.1 12.0.0.1", 350 * time.Millisecond, nil},
		"two drop":               {"12.box", "10.0.0.1 10.0.0.2 12.0.0.1", 600 * time.Millisecond, nil},
		"the first refuses":      {"12.box", "11.0.0.1 12.0.0.1", 100 * time.Millisecond, nil},
		"the second drops":       {"12.box", "12.0.0.1 10.0.0.1", 100 * time.Millisecond, nil},
		"all refuse":             {"12.box", "11.0.0.1 11.0.0.2", 0, refused},
		"all drop":               {"12.box", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6", time.Second, context.DeadlineExceeded},
		"one drops, one refuses": {"12.box", "10.0.0.1 11.0.0.1", time.Second, refused},
		"the lookup fails":       {"11.box", "", 0, refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lookup := func(context.Context, string) ([]string, error) {
					if tc.addresses == "" {
						return nil, errors.New("no such host")
					}
					return strings.Fields(tc.addresses), nil
				}
				began := time.Now()
				conn, err := dialAny(dial, lookup)(t.Context(), "tcp", tc.host+":1")
				if took := time.Since(began); !errors.Is(err, tc.err) || took != tc.after {
					t.Errorf("after %s: %v; want %v after %s", took, err, tc.err, tc.after)
				}
				if err == nil {
					_ = conn.Close()
				}
				synctest.Wait()
				if open != 0 {
					t.Errorf("%d connections are still open", open)
				}
			})
		})
	}
}

// countedConn is a connection that counts as open until it is closed.
type countedConn struct {
	net.Conn
	server net.Conn
	open   *int
}

func (c *countedConn) Close() error {
	*c.open--
	_ = c.server.Close()
	return c.Conn.Close()
}
