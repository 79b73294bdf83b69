package main

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// TestFleetOverTLS: boxes with certificates of a private authority call each other over HTTPS. A
// certificate that is not right has no call fail that another backend can answer, and the call's
// error, its log line and llmsup check say what is wrong with it.
func TestFleetOverTLS(t *testing.T) {
	t.Parallel()
	nats, own, foreign := fleettest.Start(t), certtest.New(t), certtest.New(t)
	dir, from, later := t.TempDir(), time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	right := own.Sign("127.0.0.1", from, later)
	certtest.Write(t, right, certFile, keyFile)

	access := fmt.Sprintf("keys: {tool: {sha256: %x}}\ntls: {cert_file: %s, key_file: %s}\n", sha256.Sum256([]byte("client-secret")), certFile, keyFile)
	member := func(name, advertise string) string {
		return access + fmt.Sprintf("fleet: {nats: %q, name: %s, advertise: %q, key_file: %s, ca_file: %s}\n", nats.URL, name, advertise, keyOf(t), own.File)
	}
	config := newTestConfig(t, access)
	gpu1 := launch(t, nil, "--gpu", "none", "--demo", "--config", config.path)
	network := fleettest.StartProxy(t, "nats://"+strings.TrimPrefix(gpu1.url, "https://")) // it forwards bytes
	address := strings.Replace(network.URL, "nats://", "https://", 1)
	config.write(member("gpu1", address))
	reload(t, gpu1)
	file := newTestConfig(t, member("gpu2", "https://127.0.0.1:1")+"routes: {local/demo: {primary: demo}}\n").path
	gpu2 := launch(t, nil, "--gpu", "none", "--config", file)
	gpu2.http = trusting(own)
	gpu1.awaitReady()
	gpu2.awaitStatus("in the fleet with the other one", func(s control.Status) bool { return s.Fleet != nil && s.Fleet.Joined && s.Fleet.Others == 1 })
	works := func() bool { return gpu2.chat("local/demo", `,"max_tokens":3`).backend() == "gpu1/demo" }
	check := func() string {
		_, out := gpu2.run("check", "--config", file, "--gpu", "none", "--state-dir", shortDir(t), "--listen", "127.0.0.1:0", "--llama-server", llamaServer(t))
		return strings.Join(strings.Fields(out), " ")
	}
	// use has new connections to gpu1 get a certificate.
	use := func(c *tls.Certificate) {
		t.Helper()
		certtest.Write(t, c, certFile, keyFile)
		reload(t, gpu1)
		network.Cut()
		network.Restore()
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
		"another authority": {foreign.Sign("127.0.0.1", from, later), "certificate signed by unknown authority", "fleet.ca_file of this box needs the certificate of the authority"},
		"expired":           {own.Sign("127.0.0.1", from, time.Now().Add(-time.Minute)), "certificate has expired", "renew the certificate of gpu1"},
		"another host":      {own.Sign("127.0.0.2", from, later), "certificate is valid for 127.0.0.2, not 127.0.0.1", "check fleet.advertise of gpu1, and for which names"},
	} {
		use(tc.cert)
		var last reply
		if !eventually(testTimeout, func() bool {
			last = gpu2.chat("local/demo", `,"max_tokens":3`)
			return strings.Contains(last.body, tc.want)
		}) {
			t.Errorf("%s: %d %s", name, last.status, last.body)
		}
		gpu2.awaitLog(tc.want)
		out := check()
		if !strings.Contains(out, "gpu1 cannot be called at "+address) || !strings.Contains(out, tc.want) || !strings.Contains(out, tc.remedy) {
			t.Errorf("%s: llmsup check says %s", name, out)
		}
		use(right)
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
