package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	dialTimeout     = 15 * time.Second
	responseTimeout = 30 * time.Second // until the headers of an answer
	idleTimeout     = 30 * time.Second // without a byte of an answer
	retries         = 4                // of a request without an answer, or with 429 or 5xx
	minRetryWait    = 500 * time.Millisecond
	maxRetryWait    = 10 * time.Second
	maxRedirects    = 10
)

// setup makes the HTTP client.
func (c *Client) setup() {
	c.once.Do(func() {
		c.base, _ = url.Parse(c.endpoint())
		if c.base == nil {
			c.base = &url.URL{}
		}
		transport := &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: responseTimeout,
			DisableCompression:    true, // sizes and ranges are of the file itself
			MaxIdleConnsPerHost:   2 * defaultConnections,
			Protocols:             new(http.Protocols),
		}
		transport.Protocols.SetHTTP1(true) // HTTP/2 would put all parts of a file on one connection
		c.http = &http.Client{Transport: authorization{c, transport}, CheckRedirect: checkRedirect}
	})
}

// authorization adds the token to the requests that may have it. http.Client would also
// send a header that it was given to other ports and subdomains of a redirect.
type authorization struct {
	client *Client
	next   http.RoundTripper
}

func (a authorization) RoundTrip(req *http.Request) (*http.Response, error) {
	if a.client.Token != "" && a.client.mayHaveToken(req.URL) {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+a.client.Token)
	}
	return a.next.RoundTrip(req)
}

var (
	errRedirects = permanentError{errors.New("too many redirects")}
	errDowngrade = permanentError{errors.New("it redirects from https to http")}
)

func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= maxRedirects:
		return errRedirects
	case via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https":
		return errDowngrade
	}
	req.Header.Del("Referer") // it has the signature of a storage's URL
	return nil
}

// do sends a request and returns the answer to it, of any status but 429 and 5xx.
func (c *Client) do(ctx context.Context, method, address string, header http.Header) (*http.Response, error) {
	c.setup()
	if c.Offline {
		return nil, permanentError{errors.New("HF_HUB_OFFLINE is set, so nothing is downloaded: unset it, or name a file on disk")}
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, permanentError{fmt.Errorf("%s is not a URL", hostOf(address))}
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", "llmsup")
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	client := &retryablehttp.Client{
		HTTPClient: c.http, RetryWaitMin: cmp.Or(c.firstWait, minRetryWait), RetryWaitMax: maxRetryWait, RetryMax: retries,
		CheckRetry: c.checkRetry, Backoff: c.backoff, ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	resp, err := client.Do(req)
	if limited, ok := errors.AsType[*LimitedError](err); ok {
		closeBody(resp)
		return nil, limited
	}
	if err != nil {
		return nil, c.connectError(ctx, address, err)
	}
	return resp, nil
}

func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if isPermanent(err) {
		return false, err
	}
	if resp != nil {
		if err := c.limit(resp, time.Now()); err != nil {
			return false, err
		}
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// backoff returns how long to wait before the next attempt: as long as the server asks for.
func (c *Client) backoff(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp == nil {
		return retryablehttp.DefaultBackoff(least, most, attempt, nil)
	}
	now := time.Now()
	wait, isAsked := asked(resp, now)
	if !isAsked {
		wait = retryablehttp.DefaultBackoff(least, most, attempt, nil)
	}
	if wait >= time.Second {
		c.notifyWait(resp, wait, now)
	}
	return wait
}

func (c *Client) notify(format string, args ...any) {
	if c.Notify != nil {
		c.Notify(fmt.Sprintf(format, args...))
	}
}

// get returns the body of a small answer. An answer with another status than 200 is an error
// about ref.
func (c *Client) get(ctx context.Context, ref Ref, address string) ([]byte, http.Header, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.do(ctx, http.MethodGet, address, http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, nil, err
	}
	defer closeBody(resp)
	if resp.StatusCode != http.StatusOK {
		return nil, nil, c.statusError(ref, resp)
	}
	watched, stop := c.watchBody(resp, cancel)
	defer stop()
	body, err := io.ReadAll(io.LimitReader(watched, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, c.connectError(ctx, address, err)
	case len(body) > maxAnswer:
		return nil, nil, permanentError{fmt.Errorf("%s sent a list of over %d MiB", hostOf(address), maxAnswer>>20)}
	}
	return body, resp.Header, nil
}

// closeBody reads what little may be left of a body, so that the connection can be used
// again, and closes it.
func closeBody(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // an error leads to a new connection
	_ = resp.Body.Close()
}
