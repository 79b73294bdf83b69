package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate, in PEM format
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, file}
}

// sign returns a certificate for an address that is valid until a time.
func (a *authority) sign(address string, until time.Time) *tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.ParseIP(address)},
	}, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// TestFleetOverTLS: a box is called over HTTPS, with the certificate of a private authority. A
// certificate that is not right has no call fail that another backend can answer, and the call's
// error, its log line and llmsup check say what is wrong with it.
func TestFleetOverTLS(t *testing.T) {
	t.Parallel()
	nats, own, foreign := fleettest.Start(t), newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	right := own.sign("127.0.0.1", later)
	var used atomic.Pointer[tls.Certificate]
	used.Store(right)
	var inside atomic.Pointer[url.URL]
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(inside.Load()) }})
	proxy.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*used.Load()}}, nil
	}}
	proxy.StartTLS()
	t.Cleanup(proxy.Close)

	key := fmt.Sprintf("keys: {tool: {sha256: %x}}\n", sha256.Sum256([]byte("client-secret")))
	config := func(name, advertise, more string) string {
		return newTestConfig(t, fmt.Sprintf("fleet: {nats: %q, name: %s, advertise: %q, key_file: %s, ca_file: %s}\n", nats.URL, name, advertise, keyOf(t), own.file)+key+more).path
	}
	gpu1 := launch(t, nil, "--gpu", "none", "--demo", "--config", config("gpu1", proxy.URL, ""))
	target, err := url.Parse(gpu1.url)
	if err != nil {
		t.Fatal(err)
	}
	inside.Store(target)
	file := config("gpu2", "http://127.0.0.1:1", "routes: {local/demo: {primary: demo}}\n")
	gpu2 := launch(t, nil, "--gpu", "none", "--config", file)
	gpu1.awaitReady()
	gpu2.awaitStatus("in the fleet with the other one", func(s control.Status) bool { return s.Fleet != nil && s.Fleet.Joined && s.Fleet.Others == 1 })
	works := func() bool { return gpu2.chat("local/demo", `,"max_tokens":3`).backend() == "gpu1/demo" }
	check := func() string {
		_, out := gpu2.run("check", "--config", file, "--gpu", "none", "--state-dir", shortDir(t), "--listen", "127.0.0.1:0", "--llama-server", llamaServer(t))
		return strings.Join(strings.Fields(out), " ")
	}
	if !eventually(testTimeout, works) {
		t.Fatal("no call is answered over HTTPS")
	}
	if out := check(); strings.Contains(out, "cannot be called") {
		t.Error(out)
	}
	for name, tc := range map[string]struct {
		cert   *tls.Certificate
		want   string
		remedy string // of llmsup check
	}{
		"another authority": {foreign.sign("127.0.0.1", later), "certificate signed by unknown authority", "fleet.ca_file of this box needs the certificate of the authority"},
		"expired":           {own.sign("127.0.0.1", time.Now().Add(-time.Minute)), "certificate has expired", "renew the certificate of gpu1"},
		"another host":      {own.sign("127.0.0.2", later), "certificate is valid for 127.0.0.2, not 127.0.0.1", "check fleet.advertise of gpu1, and for which names"},
	} {
		used.Store(tc.cert)
		proxy.CloseClientConnections()
		var last reply
		if !eventually(testTimeout, func() bool {
			last = gpu2.chat("local/demo", `,"max_tokens":3`)
			return strings.Contains(last.body, tc.want)
		}) {
			t.Errorf("%s: %d %s", name, last.status, last.body)
		}
		gpu2.awaitLog(tc.want)
		out := check()
		if !strings.Contains(out, "gpu1 cannot be called at "+proxy.URL) || !strings.Contains(out, tc.want) || !strings.Contains(out, tc.remedy) {
			t.Errorf("%s: llmsup check says %s", name, out)
		}
		used.Store(right)
		if !eventually(testTimeout, works) {
			t.Fatalf("after %s: no call is answered with the right certificate", name)
		}
	}
}

// keyOf writes the fleet's key to a file.
func keyOf(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fleet-key")
	if err := os.WriteFile(file, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
