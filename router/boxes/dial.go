package boxes

import (
	"cmp"
	"context"
	"net"
	"time"
)

const (
	// dialTimeout is for boxes in one network. A call has other boxes to go to.
	dialTimeout = time.Second
	// nextAddress is after what time the next address of a name is tried beside the first ones
	// (RFC 8305, 5). net.Dialer gives the first address of a family the whole dialTimeout, so that
	// one which drops packets would make the box unreachable.
	nextAddress = 250 * time.Millisecond
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialAny returns a dialer that connects to the first address of a name that accepts a connection.
func dialAny(dial dialFunc, lookup func(ctx context.Context, host string) ([]string, error)) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || net.ParseIP(host) != nil {
			return dial(ctx, network, address)
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		list, err := lookup(ctx, host)
		if err != nil || len(list) < 2 {
			return dial(ctx, network, address)
		}
		for i := range list {
			list[i] = net.JoinHostPort(list[i], port)
		}
		return dialFirst(ctx, dial, network, list)
	}
}

// dialFirst dials addresses, one more each nextAddress or when one has failed, and returns the first
// connection. If all fail, it returns the first error.
func dialFirst(ctx context.Context, dial dialFunc, network string, list []string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result)
	begin := func(address string) {
		conn, err := dial(ctx, network, address)
		select {
		case results <- result{conn, err}:
		case <-ctx.Done(): // another one was faster
			if err == nil {
				_ = conn.Close()
			}
		}
	}
	var first error
	for begun, failed := 0, 0; failed < len(list); {
		if begun < len(list) && begun == failed {
			go begin(list[begun])
			begun++
		}
		var next <-chan time.Time
		if begun < len(list) {
			next = time.After(nextAddress)
		}
		select {
		case <-ctx.Done():
			return nil, cmp.Or(first, ctx.Err())
		case <-next:
			go begin(list[begun])
			begun++
		case r := <-results:
			if r.err == nil {
				return r.conn, nil
			}
			if failed++; first == nil {
				first = r.err
			}
		}
	}
	return nil, first
}
