package router

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// A base URL may lead back to this llmsup, directly, through a proxy or through
// another llmsup. Each call would then be forwarded again and again until no
// connection is left. So each Router has a random name, which it adds to the Via of
// every request to an upstream (RFC 9110, 7.6.3), and rejects requests that carry it.

// viaPrefix is what all llmsups' entries in Via begin with; viaRandom characters of
// rand.Text follow.
const (
	viaPrefix = "1.1 llmsup-"
	viaRandom = 26
	headerVia = "Via"
)

// viaLlmsups returns the entries of llmsups in a Via. Others are not forwarded: they
// name machines of the client's network.
func viaLlmsups(h http.Header) (hops []string) {
	for _, line := range h[headerVia] {
		for hop := range strings.SplitSeq(line, ",") {
			hop = strings.TrimSpace(hop)
			random, is := strings.CutPrefix(hop, viaPrefix)
			if is && len(random) == viaRandom && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
				hops = append(hops, hop)
			}
		}
	}
	return hops
}

// checkLoop rejects a request that this router has sent itself. It asks for no key,
// so that FindLoops need not send one.
func (s *routing) checkLoop(w http.ResponseWriter, r *http.Request) wire.Error {
	if !slices.Contains(viaLlmsups(r.Header), s.via) {
		return wire.Error{}
	}
	w.Header().Set(headerVia, s.via)
	w.Header().Set("X-Should-Retry", "false")
	return wire.Error{
		Status: http.StatusLoopDetected, Type: wire.TypeServer, Code: wire.CodeLoop,
		Message: "this call has come back to the llmsup that sent it; the base_url of one of its upstreams leads here, directly or by another llmsup",
	}
}

// loopTime is how long an upstream may take to say whether it is this llmsup.
const loopTime = 5 * time.Second

var loopClient = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// FindLoops asks each upstream, without its key, whether it is this very Router.
// One that is gets no calls until a later FindLoops finds that it no longer is. What
// was found of an upstream stays if it can't be reached. FindLoops returns after 5 s
// at most, or when ctx ends.
func (rt *Router) FindLoops(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loopTime)
	defer cancel()
	var asked sync.WaitGroup
	for _, b := range rt.routing.Load().backends {
		if u, ok := b.(*upstreamBackend); ok {
			asked.Go(func() { u.findLoop(ctx) })
		}
	}
	asked.Wait()
}

func (b *upstreamBackend) findLoop(ctx context.Context) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.models, nil)
	if err != nil {
		return
	}
	req.Header = http.Header{headerVia: b.via, "User-Agent": ownAgent}
	resp, err := loopClient.Do(req)
	if err != nil {
		return
	}
	_ = resp.Body.Close()
	itself := resp.StatusCode == http.StatusLoopDetected && slices.Contains(viaLlmsups(resp.Header), b.via[0])
	b.itself.Store(itself)
	if itself {
		b.log.Error().Str("upstream", b.Name).Msg("the upstream " + itselfDetail + "; it gets no calls")
	}
}

// retryLoop is the Retry-After for such an upstream, in seconds: as for a failed
// server, an operator has to act.
const retryLoop = 60

const itselfDetail = "is this llmsup itself; change its base_url in llmsup.yaml"

// IsLoop says whether FindLoops has found that an upstream is this Router.
func (rt *Router) IsLoop(upstream string) bool {
	b, ok := rt.routing.Load().backends[upstream].(*upstreamBackend)
	return ok && b.itself.Load()
}
