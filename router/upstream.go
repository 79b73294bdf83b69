package router

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// Upstream is an endpoint that somebody else runs.
type Upstream struct {
	Name    string
	BaseURL string         // what an OpenAI SDK takes as its base URL; without a path it gets /v1
	Key     string         // secret; "" = none needed, or missing
	Missing string         // what to set when a key is needed and there is none: "set OPENROUTER_API_KEY"
	Billing models.Billing // "" = models.Metered with a Key, else models.Free

	// What OpenRouter's statistics call the application, where it does not say so itself.
	Referer string // HTTP-Referer: its URL
	Title   string // X-Title: its name
}

const (
	dialTimeout = 10 * time.Second
	// A connection that is idle in the middle of a call is asked whether it still
	// is one: else a cable that was pulled looks like a slow answer.
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// upstreamBackend sends calls to an endpoint in the cloud or on the network.
type upstreamBackend struct {
	traffic
	Upstream
	log       zerolog.Logger
	addresses map[string]*url.URL // by the paths at which calls are taken; nobody writes to them
	models    string              // the address of its list of models
	client    *retryablehttp.Client
	breaker   breaker

	withoutUsage atomic.Bool // it rejects requests that ask for the usage of a stream
	via          []string    // the Router's name; immutable
	itself       atomic.Bool // it is the Router; see FindLoops
}

func newUpstreamBackend(u Upstream, via string, log zerolog.Logger) (*upstreamBackend, error) {
	base, err := url.Parse(u.BaseURL)
	if err != nil {
		return nil, err
	}
	if base.Path == "" || base.Path == "/" {
		base.Path = "/v1"
	}
	client := retryablehttp.NewClient()
	client.Logger = nil // it would log URLs at every attempt
	client.RetryMax = repeats
	client.RetryWaitMin, client.RetryWaitMax = repeatFirst, repeatMost
	client.CheckRetry, client.Backoff = mayRepeat, pauseBefore
	client.PrepareRetry = func(req *http.Request) error {
		p := progressOf(req.Context())
		p.since = time.Now()
		p.got.Store(false)
		p.sent.Store(false)
		return nil
	}
	client.ErrorHandler = ownAnswer
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
	client.HTTPClient = &http.Client{
		Transport: onceOnly{transport},
		// A redirect would turn a POST into a GET, and take the key elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	root := strings.TrimRight(base.String(), "/")
	addresses := make(map[string]*url.URL, len(endpoints))
	for path := range endpoints {
		// Without the client's query: none of the endpoints has one, and some clients
		// put their keys there.
		address, err := url.Parse(root + strings.TrimPrefix(path, "/v1"))
		if err != nil {
			return nil, err
		}
		addresses[path] = address
	}
	return &upstreamBackend{Upstream: u, log: log, addresses: addresses, models: root + "/models", client: client, via: []string{via}}, nil
}

func (b *upstreamBackend) name() string           { return b.Name }
func (b *upstreamBackend) redact(s string) string { return withoutKey(s, b.Key) }

// withoutKey takes a key out of words: there are servers that quote it.
func withoutKey(words, key string) string {
	if key == "" {
		return words
	}
	return strings.ReplaceAll(words, key, "[key]")
}

// paid reports whether a call to the upstream may cost money.
func (b *upstreamBackend) paid() bool {
	return models.Upstream{Billing: b.Billing}.BillingWith(b.Key != "") == models.Metered
}

func (b *upstreamBackend) availability() availability {
	if b.itself.Load() {
		return availability{reason: Failed, detail: itselfDetail, noKey: b.Missing, retryAfter: retryLoop}
	}
	now := availability{alive: b.Missing == "", noKey: b.Missing}
	if last, left := b.breaker.shut(time.Now()); last != nil && b.Missing == "" {
		now.alive = false
		now.reason, now.detail = last.reason, fmt.Sprintf("%s, again and again; it is tried again in %s", last.detail, left.Round(time.Second))
		now.retryAfter = max(int(left.Round(time.Second)/time.Second), 1)
	}
	return now
}

// admit lets a call to an upstream that is up: how many it takes is its own
// matter. One that is down is tried by one call at a time.
func (b *upstreamBackend) admit(context.Context, *request.Request, alternative, time.Duration) (*place, *failure) {
	let, probe := b.breaker.enter(time.Now())
	if !let {
		failed := &failure{reason: Connect, detail: "is being tried by another call", retryAfter: wire.RetrySoon}
		if now := b.availability(); now.reason != "" { // it may have come back at this moment
			failed.reason, failed.detail = now.reason, now.detail
		}
		return nil, failed
	}
	at := newPlace(&b.traffic, nil)
	at.probe = probe
	return at, nil
}

// heard tells the breaker how a call went.
func (b *upstreamBackend) heard(f *failure, at *place, left bool) {
	opened, closed := b.breaker.report(outcomeOf(f, left), f, at.probe, time.Now())
	switch {
	case opened:
		b.log.Warn().Str("upstream", b.Name).Msg("it " + f.detail + ", several times in a row; calls that can go elsewhere do")
	case closed:
		b.log.Info().Str("upstream", b.Name).Msg("it answers again")
	}
}

func (b *upstreamBackend) do(ctx context.Context, c *request.Request, model string) (*http.Response, error) {
	address := b.addresses[c.Path]
	if address == nil { // nothing asks an upstream for what only llama-server has
		return nil, fmt.Errorf("%s has no %s", b.Name, c.Path)
	}
	payload := c.Body.WithModel(model)
	if form := progressOf(ctx).form; form != nil {
		payload = form.WithModel(model)
	}
	header := http.Header{}
	forwardHeaders(header, c.Header)
	setDefault(header, "Http-Referer", b.Referer)
	setDefault(header, "X-Title", b.Title)
	if b.Key != "" {
		header["Authorization"] = []string{"Bearer " + b.Key}
	}
	header[headerVia] = b.via
	if hops := viaLlmsups(c.Header); hops != nil {
		header[headerVia] = append(hops, b.via...)
	}
	progressOf(ctx).header = header
	plain := (&http.Request{
		Method: c.Method, URL: address, Host: address.Host, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	req, err := retryablehttp.FromRequest(plain)
	if err != nil {
		return nil, err
	}
	if err := req.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) { return payload.Open(), nil })); err != nil {
		return nil, err
	}
	return b.client.Do(req)
}
