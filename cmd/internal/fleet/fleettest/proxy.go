package fleettest

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is a network connection to a NATS server that a test can cut, stall or slow down.
type Proxy struct {
	URL    string
	target string

	mu      sync.Mutex
	flows   *sync.Cond // signals that stalled or cut has changed
	cut     bool
	stalled bool
	delay   time.Duration // each way
	conns   map[net.Conn]bool
}

// StartProxy starts a Proxy for the server at a URL. It ends with the test.
func StartProxy(t *testing.T, url string) *Proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{URL: "nats://" + l.Addr().String(), target: strings.TrimPrefix(url, "nats://"), conns: map[net.Conn]bool{}}
	p.flows = sync.NewCond(&p.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.forward(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		running.Wait()
	})
	return p
}

func (p *Proxy) forward(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.add(client, server) {
		return
	}
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: server, server: client} {
		both.Go(func() {
			p.copy(to, from)
			_ = client.Close()
			_ = server.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.cut
}

// maxRead is how many bytes are passed on at a time.
const maxRead = 32 << 10

// copy passes on what is received, after the delay, until a connection is closed.
func (p *Proxy) copy(to io.Writer, from io.Reader) {
	type part struct {
		at   time.Time
		data []byte
	}
	parts := make(chan part, 1000)
	go func() {
		defer close(parts)
		for {
			buffer := make([]byte, maxRead)
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			p.mu.Lock()
			delay := p.delay
			p.mu.Unlock()
			parts <- part{time.Now().Add(delay), buffer[:n]}
		}
	}()
	broken := false
	for one := range parts {
		time.Sleep(time.Until(one.at)) // a simulated network
		p.mu.Lock()
		for p.stalled && !p.cut {
			p.flows.Wait()
		}
		p.mu.Unlock()
		if !broken {
			_, err := to.Write(one.data)
			broken = err != nil
		}
	}
}

// Slow delays all that is sent from now on, each way.
func (p *Proxy) Slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Stall has the connections pass on nothing, and stay open, until Restore.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
}

// Cut closes all connections, and each new one.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.flows.Broadcast()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Restore ends Cut and Stall.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.stalled = false, false
	p.flows.Broadcast()
}
