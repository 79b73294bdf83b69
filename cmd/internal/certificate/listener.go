package certificate

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
)

// Listener makes the connections that a listener accepts those of TLS. A client that speaks HTTP is
// told what to change: net/http does not, and closes its connection before it has read the request,
// so that the client of a long one receives a reset instead of an answer.
func (s *Store) Listener(l net.Listener) net.Listener { return &listener{l, s.TLS()} }

type listener struct {
	net.Listener
	config *tls.Config
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(&firstBytes{Conn: conn}, l.config), nil
}

// firstBytes is a connection whose first bytes tell whether the client speaks TLS. Only one
// goroutine reads at a time.
type firstBytes struct {
	net.Conn
	read bool // something was read
}

// NetConn returns the connection below, as that of tls.Conn does.
func (c *firstBytes) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn.
func (c *firstBytes) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.read && n > 0 {
		c.read = true
		if first := p[0]; 'A' <= first && first <= 'Z' { // of a method; a record of TLS begins with 22
			c.refuse()
			return 0, io.EOF
		}
	}
	return n, err
}

const body = `{"error":{"message":"this endpoint speaks HTTPS; change http:// to https:// in the base URL","type":"invalid_request_error","param":null,"code":"https_required"}}` + "\n"

// refuse answers a request of HTTP. It reads the rest of the request until the client has closed the
// connection, within the time that net/http has set for a handshake: one that is closed with unread
// bytes is reset, and the client might lose the answer.
func (c *firstBytes) refuse() {
	if _, err := fmt.Fprintf(c.Conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nX-Should-Retry: false\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err == nil {
		_, _ = io.Copy(io.Discard, c.Conn) // as above
	}
}
