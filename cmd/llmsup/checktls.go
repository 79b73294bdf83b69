package main

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

// certificate checks the endpoint's certificate, and whether it is for the name at which other boxes
// call this one.
func (f *findings) certificate(cfg *config.Config) {
	pair, err := readCertificate(cfg)
	switch {
	case err != nil:
		f.fail(err)
		return
	case pair == nil:
		return
	}
	leaf := pair.Leaf()
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		f.warn("tls: the certificate has no names (subjectAltName), so clients reject it; get one for the name in their base URL")
	} else {
		f.ok("tls: the certificate is for %s, until %s", strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.DateOnly))
	}
	if problem := pair.Problem(time.Now()); problem != "" {
		f.warn("tls: %s", problem)
	}
	if warning := cfg.TLS.Warning(); warning != "" {
		f.warn("tls: %s", warning)
	}
	if u, err := url.Parse(cfg.Fleet.Advertise); err == nil && u.Hostname() != "" {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			f.warn("fleet: other boxes are to call this one at %s, and its certificate is not for that name; change fleet.advertise, or get a certificate for it", cfg.Fleet.Advertise)
		}
	}
}
