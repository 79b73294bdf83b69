package daemon

import (
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// endpoint is how clients reach the endpoint: over HTTP, or with a certificate over HTTPS.
type endpoint struct {
	certificates *certificate.Store // nil = HTTP
}

// openEndpoint prepares HTTPS if llmsup.yaml has tls.
func (d *Daemon) openEndpoint() {
	if pair := d.setup.Certificate; pair != nil {
		d.endpoint.certificates = certificate.New(d.setup.Config.TLS, pair, d.log)
	}
}

// url returns the endpoint's URL at an address, without a path.
func (e endpoint) url(address string) string {
	if e.certificates != nil {
		return "https://" + address
	}
	return "http://" + address
}

// wrap returns what makes connections those of the endpoint; nil = they are used as they are.
func (e endpoint) wrap() func(net.Listener) net.Listener {
	if e.certificates == nil {
		return nil
	}
	return e.certificates.Listener
}

// status returns the state of the certificate; nil = HTTP.
func (e endpoint) status() *control.TLS {
	if e.certificates == nil {
		return nil
	}
	p, problem := e.certificates.Pair()
	return &control.TLS{Expires: p.Leaf().NotAfter, Problem: problem}
}

// applyReload uses the pair that a reload has read, and returns a line for each change.
func (e endpoint) applyReload(setup Setup) []string {
	if e.certificates == nil || !e.certificates.Set(setup.Config.TLS, setup.Certificate) {
		return nil
	}
	return []string{"tls: another certificate, valid until " + setup.Certificate.Leaf().NotAfter.UTC().Format(time.RFC3339)}
}

var (
	certificateIssued = prometheus.NewDesc("llmsup_tls_certificate_issued_timestamp_seconds", "Since when the endpoint's certificate is valid, in Unix time.", nil, nil)
	certificateExpiry = prometheus.NewDesc("llmsup_tls_certificate_expiry_timestamp_seconds", "Until when the endpoint's certificate is valid, in Unix time.", nil, nil)
)

// Describe implements prometheus.Collector.
func (endpoint) Describe(all chan<- *prometheus.Desc) {
	all <- certificateIssued
	all <- certificateExpiry
}

// Collect implements prometheus.Collector.
func (e endpoint) Collect(all chan<- prometheus.Metric) {
	if e.certificates == nil {
		return
	}
	p, _ := e.certificates.Pair()
	all <- prometheus.MustNewConstMetric(certificateIssued, prometheus.GaugeValue, float64(p.Leaf().NotBefore.Unix()))
	all <- prometheus.MustNewConstMetric(certificateExpiry, prometheus.GaugeValue, float64(p.Leaf().NotAfter.Unix()))
}
