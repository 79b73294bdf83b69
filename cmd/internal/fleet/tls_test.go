package fleet

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// Over TLS a box joins only if it trusts the servers' certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	https := httptest.NewTLSServer(nil) // it has a certificate for 127.0.0.1
	defer https.Close()
	nats := fleettest.Start(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12}
		o.TLSTimeout = 5
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := settings(t, "a", strings.Replace(nats.URL, "nats://", "tls://", 1))
	stranger := start(t, s)
	v := stranger.await(t, "told the result", func(v *View) bool { return v.Joined || !strings.HasPrefix(v.Problem, "it connects") })
	if v.Joined || !strings.Contains(v.Problem, "certificate") {
		t.Errorf("without ca_file: joined %t, %q", v.Joined, v.Problem)
	}
	stranger.stop()
	s.CAFile = ca
	start(t, s).sees(t)
	s.Name, s.NATS = "b", Servers{nats.URL} // the server requires TLS
	start(t, s).sees(t, "a")

	// A server without TLS: ca_file may be for the certificates of boxes only.
	plain := fleettest.Start(t)
	s.NATS = Servers{plain.URL}
	start(t, s).sees(t)
	s.NATS = Servers{strings.Replace(plain.URL, "nats://", "tls://", 1)}
	demands := start(t, s)
	v = demands.await(t, "told the result", func(v *View) bool { return v.Joined || !strings.HasPrefix(v.Problem, "it connects") })
	if v.Joined {
		t.Error("tls:// has accepted a server without TLS")
	}
}
