package backend

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	// MaxRetries is how often a request may be sent again.
	MaxRetries   = 2
	firstBackoff = 250 * time.Millisecond
	maxBackoff   = time.Second
	// maxRetryAfter is the longest Retry-After that is waited for. Clients decide
	// themselves about longer ones.
	maxRetryAfter = 5 * time.Second
	// DeclinesWithin: a 503 within this time means overload, not an aborted generation.
	DeclinesWithin = time.Second
)

// payload returns the body as the backend gets it.
func (a *Attempt) payload() request.Payload {
	if form := a.Lease.Form; form != nil {
		return form.WithModel(a.Model)
	}
	return a.Request.Body.WithModel(a.Model)
}

// traced has the transport report how far the request has come.
func (a *Attempt) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { a.connected.Store(true) },
		WroteHeaders: func() { a.wroteHeaders.Store(true) },
	})
}

// SendFailure returns the failure of a request for which Send returned an error.
func (a *Attempt) SendFailure(err error) *Failure {
	sent := a.wroteHeaders.Load()
	fair := isFair(time.Since(a.sentAt), sent, a.Request.Body.Stream)
	switch {
	case !sent:
		return &Failure{Reason: Connect, Detail: "can't be reached: " + wire.RootCause(err), HadFairChance: fair}
	case unprocessed(err):
		return &Failure{Reason: Lost, Detail: "broke the connection: " + wire.RootCause(err), HadFairChance: fair}
	}
	return &Failure{Reason: Lost, Phase: Sent, Detail: "broke the connection: " + wire.RootCause(err), HadFairChance: fair}
}

// send sends a request, and sends it again as long as mayRetry allows.
func (a *Attempt) send(ctx context.Context, transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	payload, header := a.payload(), req.Header
	req.Header = http.Header{} // once adds them: http.Client would copy them for each request
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: once{transport, header},
			// A redirect would turn a POST into a GET, and take the key elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax: MaxRetries, RetryWaitMin: firstBackoff, RetryWaitMax: maxBackoff,
		CheckRetry: a.mayRetry, Backoff: backoff, ErrorHandler: ownAnswer,
		PrepareRetry: func(*http.Request) error {
			a.sentAt = time.Now()
			a.connected.Store(false)
			a.wroteHeaders.Store(false)
			return nil
		},
	}
	a.sentAt = time.Now()
	retryable, err := retryablehttp.FromRequest(req.WithContext(a.traced(ctx)))
	if err != nil {
		return nil, err
	}
	if err := retryable.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) { return payload.Open(), nil })); err != nil {
		return nil, err
	}
	return client.Do(retryable)
}

// mayRetry decides whether a request is sent again: only if nothing can have been
// generated, and so billed. That is if it was not sent at all, if the peer says so by the
// protocol, or if the peer was overloaded (429, or a 503 that declined accepts), the call
// has no other backend and the wait fits the deadline. A call that has another backend
// moves there at once if no connection can be made.
func (a *Attempt) mayRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && !a.connected.Load() && a.Alternative.Allows(Connect) {
		return false, nil
	}
	if err != nil {
		return !a.wroteHeaders.Load() || unprocessed(err), nil
	}
	overloaded := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable && declined(resp, a.sentAt)
	if !overloaded || a.Alternative.Allows(Status) {
		return false, nil
	}
	wait, asked := retryAfter(resp)
	if !asked {
		wait = maxBackoff
	}
	return wait <= maxRetryAfter && time.Now().Add(wait).Before(a.Deadline), nil
}

// unprocessed says whether an error of HTTP/2 proves that the peer has done nothing
// about the request (RFC 9113, 8.7): its stream was refused, or is above the last one
// that a GOAWAY names. net/http has these as text alone, which it puts into another
// text where the request can't be rewound. The comparison is exact: what a
// peer writes, such as a GOAWAY's debug data, appears only inside longer errors.
func unprocessed(err error) bool {
	text := wire.RootCause(err)
	if rest, ok := strings.CutPrefix(text, "http2: Transport: cannot retry err ["); ok {
		text = strings.TrimSuffix(rest, "] after Request.Body was written; define Request.GetBody to avoid this error")
	}
	return text == "http2: Transport received Server's graceful shutdown GOAWAY" || refusedStream.MatchString(text)
}

var refusedStream = regexp.MustCompile(`^stream error: stream ID [0-9]+; REFUSED_STREAM; received from peer$`)

// declined says whether a backend that answered 503 did nothing about the request:
// it answered at once, or says when to come again. A 503 that comes late and says
// nothing may be a gateway's whose backend broke off while it generated.
func declined(resp *http.Response, since time.Time) bool {
	return resp.Header.Get("Retry-After") != "" || time.Since(since) < DeclinesWithin
}

// ownAnswer returns the upstream's own answer instead of "giving up after".
func ownAnswer(resp *http.Response, err error, _ int) (*http.Response, error) {
	if err != nil && resp != nil { // the call ended when it came
		_ = resp.Body.Close()
		resp = nil
	}
	return resp, err
}

// backoff is how long to wait before a request is sent again.
func backoff(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil {
		if wait, asked := retryAfter(resp); asked {
			return wait
		}
	}
	return retryablehttp.DefaultBackoff(least, most, attempt, nil)
}

// retryAfter reads how long a backend asks to wait. A date is ignored: clocks differ.
func retryAfter(resp *http.Response) (wait time.Duration, asked bool) {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0, false
	}
	seconds = min(seconds, 24*60*60)
	return time.Duration(seconds) * time.Second, true
}

// once sends each request without the means to send it again. With them, net/http's
// HTTP/2 repeats requests that the peer has read, by itself and without a limit, when
// their stream is reset; such a request may have been billed.
//
// It has no CloseIdleConnections: retryablehttp would close them all after each call
// that fails.
type once struct {
	transport http.RoundTripper
	header    http.Header
}

// RoundTrip implements http.RoundTripper.
func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := *req
	sent.GetBody = nil
	sent.Header = o.header
	return o.transport.RoundTrip(&sent)
}
