package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

// reachTimeout limits the wait for each box's answer.
const reachTimeout = 3 * time.Second

// reach warns of the boxes that this one cannot call at the addresses that they advertise.
func (f *findings) reach(ctx context.Context, settings fleet.Settings, found *fleet.ProbeResult) {
	tlsConfig, err := settings.TLS()
	if err != nil {
		f.fail(fmt.Errorf("fleet: %w", err))
		return
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}
	problems := make([]error, len(found.Boxes))
	var tasks sync.WaitGroup
	for i := range found.Boxes {
		to := &found.Boxes[i]
		tasks.Go(func() { problems[i] = callBox(ctx, transport, to, found.Hop(to)) })
	}
	tasks.Wait()
	for i, err := range problems {
		if b := found.Boxes[i]; err != nil {
			f.warn("fleet: %s cannot be called at %s: %s; %s", b.Name, b.Address, wire.RootCause(err), remedy(err, b.Name))
		}
	}
}

// remedy returns what to do about the error of a call to a box.
func remedy(err error, box string) string {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "fleet.ca_file of this box needs the certificate of the authority that has signed the certificate of " + box
	case errors.As(err, new(x509.HostnameError)):
		return fmt.Sprintf("check fleet.advertise of %s, and for which names its certificate is", box)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("renew the certificate of %s, and check the clocks of both boxes", box)
	}
	return "check fleet.advertise of " + box
}

// advertised warns of an address for other boxes at which only this machine can call: the default of
// listen is one. A proxy may listen there, but seldom at the same port.
func (f *findings) advertised(cfg *config.Config) {
	scheme, standard := "http", "80"
	if cfg.TLS.Enabled() {
		scheme, standard = "https", "443"
	}
	u, err := url.Parse(cfg.Fleet.Advertise)
	if err != nil || u.Scheme != scheme || !cfg.Loopback() {
		return
	}
	_, port, _ := net.SplitHostPort(cfg.Listen) // Loopback has read it
	own := config.Config{Listen: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), standard))}
	if cmp.Or(u.Port(), standard) == port && !own.Loopback() {
		f.warn("fleet: other boxes are to call this one at %s, but llmsup listens on %s, which only this machine can reach; set listen: 0.0.0.0:%s and restart llmsup; as a service, change ListenStream= of llmsup.socket instead",
			cfg.Fleet.Advertise, cfg.Listen, port)
	}
}

// targets warns of servers in routes that neither this box nor another one has now: one may join
// later, but it may also be a typing error.
func (f *findings) targets(cfg *config.Config, running *control.Status, found *fleet.ProbeResult) {
	known := func(target string) bool {
		_, server := cfg.Servers[target]
		_, upstream := cfg.Upstreams[target]
		if running != nil { // it may be one of a flag
			server = server || slices.ContainsFunc(running.Servers, func(s control.Server) bool { return s.Name == target })
		}
		return server || upstream || strings.Contains(target, "://") || slices.ContainsFunc(found.Boxes, func(b fleet.Peer) bool {
			return slices.ContainsFunc(b.Models, func(m fleet.Model) bool { return m.Name == target })
		})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Routes)) {
		route := cfg.Routes[name]
		targets := []string{route.Primary}
		for _, fallback := range route.FallbackList() {
			targets = append(targets, fallback.To)
		}
		for _, target := range targets {
			if target != "" && !known(target) {
				f.warn("routes.%s: no box has a server %s now, and this box has no upstream of that name", name, config.QuoteSafe(target))
			}
		}
	}
}

// callBox calls a box as another box does, without a call for a model. The box answers 404 if it
// has accepted the code.
func callBox(ctx context.Context, transport http.RoundTripper, to *fleet.Peer, hop string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.Address, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set(wire.HeaderHop, boxes.Hop{Box: hop, Server: "check", Timeout: reachTimeout}.String())
	resp, err := transport.RoundTrip(req)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s", reachTimeout)
	case err != nil:
		return err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil
	case http.StatusForbidden:
		return errors.New("another box answers there")
	}
	return fmt.Errorf("it answers %d, and may not be llmsup", resp.StatusCode)
}
