package backend

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// UpstreamConfig is an endpoint that llmsup does not run.
type UpstreamConfig struct {
	Name    string
	BaseURL string         // what an OpenAI SDK takes as its base URL; without a path it gets /v1
	Key     string         // secret; "" = none needed, or missing
	Missing string         // what to set when a key is needed and there is none: "set OPENROUTER_API_KEY"
	Billing models.Billing // "" = metered if it has a key

	// What OpenRouter's statistics call the application, unless the call says so itself.
	Referer string // HTTP-Referer: its URL
	Title   string // X-Title: its name
}

const (
	dialTimeout = 10 * time.Second
	// A connection that is idle in the middle of a call is probed: a cable that was
	// pulled would look like a slow answer.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// Upstream sends calls to an endpoint in the cloud or on the network.
type Upstream struct {
	Load
	config    UpstreamConfig
	log       zerolog.Logger
	addresses map[string]*url.URL // by the paths at which calls are taken; immutable
	models    string              // the address of its list of models
	transport *upstreamTransport
	breaker   breaker

	withoutUsage atomic.Bool // it rejects requests that ask for the usage of a stream
	via          []string    // llmsup's entry in Via; immutable
	isLoop       atomic.Bool // it is the router itself; see FindLoop
}

// NewUpstream makes the backend of an upstream. via is llmsup's entry in Via: see
// ViaOf. An error says why the base URL cannot be parsed.
func NewUpstream(c UpstreamConfig, via string, log zerolog.Logger) (*Upstream, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil {
		return nil, err
	}
	if base.Path == "" || base.Path == "/" {
		base.Path = "/v1"
	}
	transport := &upstreamTransport{}
	transport.current.Store(&http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         request.WritevDialer((&net.Dialer{Timeout: dialTimeout}).DialContext),
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     upstreamIdle,
		DisableCompression:  true, // bytes are passed on as they come
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	})
	root := strings.TrimRight(base.String(), "/")
	addresses := make(map[string]*url.URL, len(wire.Endpoints))
	for path := range wire.Endpoints {
		// Without the client's query: none of the endpoints has one, and some clients
		// put their keys there.
		address, err := url.Parse(root + strings.TrimPrefix(path, "/v1"))
		if err != nil {
			return nil, err
		}
		addresses[path] = address
	}
	return &Upstream{config: c, log: log, addresses: addresses, models: root + "/models", transport: transport, via: []string{via}}, nil
}

// Config returns what the upstream was made of.
func (b *Upstream) Config() UpstreamConfig { return b.config }

// Info implements Backend.
func (b *Upstream) Info() Info {
	billing := b.config.Billing
	if billing == "" && b.config.Key != "" {
		billing = models.Metered
	}
	return Info{Name: b.config.Name, Metered: billing == models.Metered}
}

// Redact implements Backend.
func (b *Upstream) Redact(text string) string { return withoutKey(text, b.config.Key) }

// withoutKey removes a key from a text: some servers quote it.
func withoutKey(text, key string) string {
	if key == "" {
		return text
	}
	return strings.ReplaceAll(text, key, "[key]")
}

// Availability implements Backend.
func (b *Upstream) Availability() Availability {
	missing := b.config.Missing
	if b.isLoop.Load() {
		return Availability{Reason: Failed, Detail: loopDetail, MissingKey: missing, RetryAfter: retryLoop}
	}
	now := Availability{Alive: missing == "", MissingKey: missing}
	if last, left := b.breaker.shut(time.Now()); last != nil && missing == "" {
		now.Alive = false
		now.Reason, now.Detail = last.Reason, fmt.Sprintf("%s, again and again; it is tried again in %s", last.Detail, left.Round(time.Second))
		now.RetryAfter = max(int(left.Round(time.Second)/time.Second), 1)
	}
	return now
}

// Admit implements Backend. An upstream that is up takes any number of calls; one that
// is down is tried by one call at a time.
func (b *Upstream) Admit(_ context.Context, a *Attempt) (*Lease, *Failure) {
	let, probe := b.breaker.enter(time.Now())
	if !let {
		failed := &Failure{Reason: Connect, Detail: "is being tried by another call", RetryAfter: wire.RetrySoon}
		if now := b.Availability(); now.Reason != "" { // it may have come back at this moment
			failed.Reason, failed.Detail = now.Reason, now.Detail
		}
		return nil, failed
	}
	lease := NewLease(&b.Load, nil)
	lease.report = func(f *Failure, clientGone bool) { b.report(f, probe, clientGone) }
	lease.Form = b.form(a)
	return lease, nil
}

// form asks a metered upstream for the usage of a stream; nil = the body is sent as the
// client wrote it. Others than llama-server stream in ways of their own.
func (b *Upstream) form(a *Attempt) *aggregate.Form {
	if !b.Info().Metered || a.Unmodified || b.withoutUsage.Load() {
		return nil
	}
	form, ok := aggregate.WithUsage(a.Request.Body, a.Request.Path)
	if !ok {
		return nil
	}
	return &form
}

// RejectsUsage has the upstream no longer be asked for the usage of streams.
func (b *Upstream) RejectsUsage() { b.withoutUsage.Store(true) }

// report reports to the breaker how a call went.
func (b *Upstream) report(f *Failure, probe, clientGone bool) {
	opened, closed := b.breaker.report(outcomeOf(f, clientGone), f, probe, time.Now())
	switch {
	case opened:
		b.log.Warn().Str("upstream", b.config.Name).Msg("it " + f.Detail + ", several times in a row; calls that can go elsewhere do")
	case closed:
		b.log.Info().Str("upstream", b.config.Name).Msg("it answers again")
	}
}

// Send implements Backend.
func (b *Upstream) Send(ctx context.Context, a *Attempt) (*http.Response, error) {
	r := a.Request
	address := b.addresses[r.Path]
	if address == nil { // an upstream is never asked for what only llama-server has
		return nil, fmt.Errorf("%s has no %s", b.config.Name, r.Path)
	}
	header := http.Header{}
	forwardHeaders(header, r.Header)
	setDefault(header, "Http-Referer", b.config.Referer)
	setDefault(header, "X-Title", b.config.Title)
	if b.config.Key != "" {
		header["Authorization"] = []string{"Bearer " + b.config.Key}
	}
	header[headerVia] = b.via
	if hops := ViaHops(r.Header); hops != nil {
		header[headerVia] = append(hops, b.via...)
	}
	return a.send(ctx, b.transport, &http.Request{
		Method: r.Method, URL: address, Host: address.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	})
}

// BreakerState returns the state of the circuit breaker.
func (b *Upstream) BreakerState(now time.Time) BreakerState { return b.breaker.state(now) }

// Transport returns the transport that new requests use. It must not be changed while
// requests are made.
func (b *Upstream) Transport() *http.Transport { return b.transport.current.Load() }
