package router

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Upstream is an endpoint that somebody else runs.
type Upstream struct {
	Name    string
	BaseURL string // what an OpenAI SDK takes as its base URL; without a path it gets /v1
	Key     string // secret; "" = none needed, or missing
	Missing string // what to set when a key is needed and there is none: "set OPENROUTER_API_KEY"
}

const (
	dialAttempts = 2 // more than one: an upstream has several addresses
	dialTimeout  = 10 * time.Second
)

// upstreamBackend sends calls to an endpoint in the cloud or on the network.
type upstreamBackend struct {
	traffic
	Upstream
	base   string
	client *retryablehttp.Client
}

func newUpstreamBackend(u Upstream) (*upstreamBackend, error) {
	base, err := url.Parse(u.BaseURL)
	if err != nil {
		return nil, err
	}
	if base.Path == "" || base.Path == "/" {
		base.Path = "/v1"
	}
	client := retryablehttp.NewClient()
	client.Logger = nil // it would log URLs at every attempt
	client.RetryMax = dialAttempts - 1
	client.RetryWaitMin = 100 * time.Millisecond
	client.RetryWaitMax = time.Second
	client.CheckRetry = retryDialErrors
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler // the upstream's own answer, not "giving up after"
	client.HTTPClient = &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout: dialTimeout,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     60 * time.Second,
			DisableCompression:  true, // bytes are passed on as they come
			// HTTP/1.1 alone: Go's HTTP/2 sends a request again, by itself and
			// without a limit, when the server resets its stream after having
			// read it all. That request may have been paid for.
			TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		// A redirect would turn a POST into a GET, and take the key elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &upstreamBackend{Upstream: u, base: strings.TrimRight(base.String(), "/"), client: client}, nil
}

// retryDialErrors repeats an attempt only where nothing can have been
// generated, and so paid for: no connection came about.
func retryDialErrors(ctx context.Context, _ *http.Response, err error) (bool, error) {
	return ctx.Err() == nil && isDialError(err), ctx.Err()
}

func isDialError(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
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

// paid takes an upstream that wants a key for one that wants money as well.
func (b *upstreamBackend) paid() bool { return b.Key != "" }

func (b *upstreamBackend) availability() availability {
	return availability{alive: b.Missing == "", noKey: b.Missing}
}

func (b *upstreamBackend) do(ctx context.Context, c *call, model string) (*http.Response, error) {
	payload := c.body.withModel(model)
	// Without the client's query: none of the endpoints has one, and some clients
	// put their keys there.
	address := b.base + strings.TrimPrefix(c.path, "/v1")
	req, err := retryablehttp.NewRequestWithContext(ctx, c.method, address, retryablehttp.ReaderFunc(payload.open))
	if err != nil {
		return nil, err
	}
	forwardHeaders(req.Header, c.header)
	if b.Key != "" {
		req.Header.Set("Authorization", "Bearer "+b.Key)
	}
	return b.client.Do(req)
}
