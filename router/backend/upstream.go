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
	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// UpstreamConfig is an endpoint that llmsup does not run.
type UpstreamConfig struct {
	Name    string
	BaseURL string         // the base URL as for an OpenAI SDK; without a path, /v1 is added
	Key     string         // secret; "" = none needed, or missing
	Missing string         // what to set if a key is needed and missing: "set OPENROUTER_API_KEY"
	Billing models.Billing // "" = metered if it has a key

	// The application in OpenRouter's statistics, unless the call has these headers.
	Referer string // HTTP-Referer: its URL
	Title   string // X-Title: its name
}

const (
	dialTimeout = 10 * time.Second
	// A connection that is silent in the middle of a call is probed: without that, an
	// unplugged cable would look like a slow answer.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// Upstream sends calls to an endpoint in the cloud or on the network.
type Upstream struct {
	Load
	config    UpstreamConfig
	log       zerolog.Logger
	addresses map[string]*url.URL // by endpoint path; immutable
	models    string              // the address of its list of models
	transport *upstreamTransport
	breaker   breaker

	withoutUsage atomic.Bool // it rejects requests for the usage of a stream
	via          []string    // llmsup's entry in Via; immutable
	isLoop       atomic.Bool // it is the router itself; see FindLoop
}

// NewUpstream returns the backend of an upstream. via is llmsup's entry in Via, from
// NewVia. It returns an error if the base URL cannot be parsed.
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
		DisableCompression:  true, // bytes are passed on unchanged
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	})
	root := strings.TrimRight(base.String(), "/")
	addresses := make(map[string]*url.URL, len(endpoint.Public))
	for path := range endpoint.Public {
		// Without the client's query: none of the endpoints has one, and some clients
		// put their keys there.
		address, err := url.Parse(addressOf(root, path))
		if err != nil {
			return nil, err
		}
		addresses[path] = address
	}
	return &Upstream{config: c, log: log, addresses: addresses, models: root + "/models", transport: transport, via: []string{via}}, nil
}

// addressOf returns the address of a path at a base URL, which takes the place of /v1. Of a
// path of another version, that version takes the place of the base URL's.
func addressOf(root, path string) string {
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		return root + "/" + rest
	}
	version, _, _ := strings.Cut(path[1:], "/")
	return strings.TrimSuffix(strings.TrimSuffix(root, "/v1"), "/"+version) + path
}

// Config returns the upstream's configuration.
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
func (b *Upstream) Redact(text string) string { return redactKey(text, b.config.Key) }

// redactKey removes a key from a text: some servers quote it in errors.
func redactKey(text, key string) string {
	if key == "" {
		return text
	}
	return strings.ReplaceAll(text, key, "[key]")
}

// Availability implements Backend.
func (b *Upstream) Availability() Availability {
	missing := b.config.Missing
	if b.isLoop.Load() {
		return Availability{Reason: Failed, Detail: loopDetail, MissingKey: missing, RetryAfter: retryLoop, NeedsOperator: true}
	}
	now := Availability{Alive: missing == "", MissingKey: missing}
	if last, left := b.breaker.openReason(time.Now()); last != nil && missing == "" {
		now.Alive = false
		now.Reason, now.Detail = last.Reason, fmt.Sprintf("%s, several times in a row; it is tried again in %s", last.Detail, left.Round(time.Second))
		now.RetryAfter = max(int(left.Round(time.Second)/time.Second), 1)
	}
	return now
}

// Admit implements Backend. An upstream that is up accepts any number of calls; one that
// is down is tried by one call at a time.
func (b *Upstream) Admit(_ context.Context, a *Attempt) (*Lease, *Failure) {
	allowed, probe := b.breaker.allow(time.Now())
	if !allowed {
		failed := &Failure{Reason: Connect, Detail: "is being tried by another call", RetryAfter: wire.RetrySoon}
		if now := b.Availability(); now.Reason != "" { // the breaker may have closed since
			failed.Reason, failed.Detail = now.Reason, now.Detail
		}
		return nil, failed
	}
	lease := NewLease(&b.Load, nil)
	lease.report = func(f *Failure, clientGone bool) { b.report(f, probe, clientGone) }
	lease.Form = b.form(a)
	return lease, nil
}

// form returns the form that requests the usage of a stream from a metered upstream; nil
// = the body is sent as the client wrote it. Non-streaming calls stay as they are: the
// streams of upstreams differ too much to be rebuilt as those of llama-server are.
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

// RejectsUsage stops requests for the usage of streams at the upstream.
func (b *Upstream) RejectsUsage() { b.withoutUsage.Store(true) }

// report reports the outcome of a call to the breaker.
func (b *Upstream) report(f *Failure, probe, clientGone bool) {
	opened, closed := b.breaker.report(outcomeOf(f, clientGone), f, probe, time.Now())
	switch {
	case opened:
		b.log.Warn().Str("upstream", b.config.Name).Msg("circuit breaker opened; the upstream " + f.Detail + ", several times in a row")
	case closed:
		b.log.Info().Str("upstream", b.config.Name).Msg("circuit breaker closed; the upstream answers again")
	}
}

// Send implements Backend.
func (b *Upstream) Send(ctx context.Context, a *Attempt) (*http.Response, error) {
	r := a.Request
	address := b.addresses[r.Path]
	if address == nil { // a path that only llama-server has
		return nil, fmt.Errorf("%s has no %s", b.config.Name, r.Path)
	}
	header := http.Header{}
	ForwardHeaders(header, r.Header)
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

// Transport returns the transport that new requests use. Callers must not change it while
// requests are made.
func (b *Upstream) Transport() *http.Transport { return b.transport.current.Load() }
