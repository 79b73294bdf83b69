package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/certificate/certtest"
	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

func TestReach(t *testing.T) {
	t.Parallel()
	var hop string
	answers := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hop = r.Header.Get(wire.HeaderHop)
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, tc := range map[string]struct {
		address string
		warning string // "" = none
	}{
		"right":          {answers(http.StatusNotFound), ""},
		"another box":    {answers(http.StatusForbidden), "another box answers there; check fleet.advertise of gpu2"},
		"not llmsup":     {answers(http.StatusOK), "it answers 200, and may not be llmsup"},
		"nothing":        {gone.URL, "connection refused"},
		"http, not TLS":  {strings.Replace(answers(http.StatusNotFound), "http:", "https:", 1), "does not look like a TLS handshake"},
		"no certificate": {httptestTLS(t), "certificate signed by unknown authority; fleet.ca_file of this box needs the certificate of the authority"},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			f := &findings{page: &page{out: &printed}}
			f.reach(t.Context(), fleet.Settings{}, &fleet.ProbeResult{Boxes: []fleet.Peer{{Box: fleet.Box{Name: "gpu2", Address: tc.address}}}})
			out := printed.String()
			if (tc.warning == "") != (out == "") || !strings.Contains(out, tc.warning) {
				t.Errorf("the check says %q; want %q", out, tc.warning)
			}
		})
	}
	if !strings.HasSuffix(hop, " check wait 3000") {
		t.Errorf("a box was called with the header %q", hop)
	}
}

// httptestTLS starts a server with a certificate that no authority has signed.
func httptestTLS(t *testing.T) string {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server.URL
}

func TestUnknownTargets(t *testing.T) {
	t.Parallel()
	for target, warns := range map[string]bool{"here": false, "flag": false, "there": false, "cloud": false, "http://h/v1": false, "thre": true} {
		cfg := &config.Config{
			Servers: map[string]config.Server{"here": {}}, Upstreams: map[string]models.Upstream{"cloud": {}},
			Routes: map[string]models.Route{"a": {Primary: target}, "b": {Primary: "here", Fallback: target}},
		}
		var printed strings.Builder
		f := &findings{page: &page{out: &printed}}
		f.targets(cfg, &control.Status{Servers: []control.Server{{Name: "flag"}}}, &fleet.ProbeResult{Boxes: []fleet.Peer{{Box: fleet.Box{Models: []fleet.Model{{Name: "there"}}}}}})
		if out := printed.String(); strings.Contains(out, "routes.a: no box has a server") != warns || strings.Contains(out, "routes.b: no box has a server") != warns {
			t.Errorf("%s: the check says %q", target, out)
		}
	}
}

func TestAdvertised(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		listen, advertise string
		warned            bool
	}{
		"the default of listen":     {"127.0.0.1:8000", "http://gpu1.internal:8000", true},
		"port 80":                   {"localhost:80", "http://gpu1.internal", true},
		"all addresses":             {"0.0.0.0:8000", "http://gpu1.internal:8000", false},
		"a proxy":                   {"127.0.0.1:8000", "http://gpu1.internal:8080", false},
		"a proxy with TLS":          {"127.0.0.1:8000", "https://gpu1.internal:8000", false},
		"HTTPS":                     {"127.0.0.1:8000", "https://gpu1.internal:8000", true},
		"HTTPS, port 443":           {"127.0.0.1:443", "https://gpu1.internal", true},
		"all boxes on this machine": {"127.0.0.1:8000", "http://127.0.0.1:8000", false},
	} {
		t.Run(name, func(t *testing.T) {
			var printed strings.Builder
			f := &findings{page: &page{out: &printed}}
			cfg := &config.Config{Listen: tc.listen, Fleet: fleet.Settings{Advertise: tc.advertise}}
			if strings.HasPrefix(name, "HTTPS") {
				cfg.TLS = certificate.Settings{CertFile: "/cert", KeyFile: "/key"}
			}
			f.advertised(cfg)
			out := strings.Join(strings.Fields(printed.String()), " ")
			if strings.Contains(out, "which only this machine can reach") != tc.warned || strings.Contains(out, "change ListenStream= of llmsup.socket instead") != tc.warned {
				t.Errorf("the check says %q", out)
			}
		})
	}
}

// TestCertificateWithoutNames: clients reject a certificate that has a name only in its subject.
func TestCertificateWithoutNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := certificate.Settings{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for host, named := range map[string]bool{"": false, "gpu1": true} {
		certtest.Write(t, certtest.New(t).Sign(host, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)), s.CertFile, s.KeyFile)
		var printed strings.Builder
		(&findings{page: &page{out: &printed}}).certificate(&config.Config{TLS: s})
		if out := printed.String(); strings.Contains(out, "the certificate is for gpu1") != named || strings.Contains(out, "has no names (subjectAltName)") == named {
			t.Errorf("%q: the check says %q", host, out)
		}
	}
}
