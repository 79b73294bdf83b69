package backend

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A base URL may lead back to this llmsup, directly, through a proxy or through another
// llmsup. Each call would then be forwarded again and again until no connection is left.
// So each router adds a random name to the Via of every request to an upstream
// (RFC 9110, 7.6.3), and rejects requests that carry its own name.

// ViaPrefix begins the Via entry of every llmsup; viaRandom characters of rand.Text
// follow.
const (
	ViaPrefix = "1.1 llmsup-"
	viaRandom = 26
	headerVia = "Via"
)

// NewVia returns a new entry in Via.
func NewVia() string { return ViaPrefix + rand.Text() }

// ViaHops returns the entries of llmsups in a Via. Other entries are not forwarded: they
// name machines of the client's network.
func ViaHops(h http.Header) (hops []string) {
	for _, line := range h[headerVia] {
		for hop := range strings.SplitSeq(line, ",") {
			hop = strings.TrimSpace(hop)
			random, is := strings.CutPrefix(hop, ViaPrefix)
			if is && len(random) == viaRandom && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
				hops = append(hops, hop)
			}
		}
	}
	return hops
}

// loopTimeout is how long FindLoop waits for an upstream's response.
const loopTimeout = 5 * time.Second

var loopClient = &http.Client{
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// FindLoop checks, without the upstream's key, whether the upstream's base URL leads back
// to this router. If so, the upstream gets no calls until a later FindLoop finds that it
// no longer does. If the upstream cannot be reached, the previous result stays. FindLoop
// returns after 5 s at most.
func (b *Upstream) FindLoop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loopTimeout)
	defer cancel()
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
	loop := resp.StatusCode == http.StatusLoopDetected && slices.Contains(ViaHops(resp.Header), b.via[0])
	b.isLoop.Store(loop)
	if loop {
		b.log.Error().Str("upstream", b.config.Name).Msg("the upstream " + loopDetail + "; it gets no calls")
	}
}

// IsLoop reports whether FindLoop has found that the upstream is the router itself.
func (b *Upstream) IsLoop() bool { return b.isLoop.Load() }

// retryLoop is the Retry-After for such an upstream, in seconds: as for a failed
// server, an operator has to act.
const retryLoop = 60

const loopDetail = "is this llmsup itself; change its base_url in llmsup.yaml"
