package certificate

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
)

// serve runs a server with a Store's listener, and returns its host and port, and a client.
func serve(t *testing.T, authority *certtest.Authority, store *Store) (address string, client *http.Client) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(store.Listener(l)) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	return l.Addr().String(), &http.Client{Transport: transport}
}

// TestListener: clients get HTTP/1.1 over TLS, with the present certificate.
func TestListener(t *testing.T) {
	authority, s := pairFiles(t)
	pair, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	store := New(s, pair, zerolog.Nop())
	address, client := serve(t, authority, store)
	get := func() (leaf *x509.Certificate, answer string) {
		t.Helper()
		resp, err := client.Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0], string(body)
	}
	if leaf, answer := get(); answer != "HTTP/1.1" || !leaf.Equal(pair.Leaf()) {
		t.Errorf("%s, %s", answer, leaf.NotAfter)
	}
	certtest.Write(t, authority.Sign("127.0.0.1", time.Now().Add(-time.Minute), time.Now().Add(time.Hour)), s.CertFile, s.KeyFile)
	renewed, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	store.Set(s, renewed)
	if leaf, _ := get(); !leaf.Equal(renewed.Leaf()) {
		t.Error("a new connection has the old certificate")
	}
}

// TestPlainHTTP: a client of HTTP is told what to change, however long its request is, which some
// clients write to its end before they read.
func TestPlainHTTP(t *testing.T) {
	authority, s := pairFiles(t)
	pair, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, authority, New(s, pair, zerolog.Nop()))
	for name, size := range map[string]int{"short": 10, "long": 20 << 20} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(resp.Body)
			if err != nil || !json.Valid(answer) || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(answer), "change http:// to https://") || resp.Header.Get("X-Should-Retry") != "false" {
				t.Errorf("%s %s, %v", resp.Status, answer, err)
			}
		})
	}
}

// Other bytes than those of HTTP are for TLS to reject.
func TestNeither(t *testing.T) {
	authority, s := pairFiles(t)
	pair, _, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, authority, New(s, pair, zerolog.Nop()))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("\x80\x01\x02\x03\x04\x05")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || strings.Contains(string(got), "HTTP") {
		t.Errorf("%q, %v", got, err)
	}
}
