package backend

import (
	"bytes"
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
	// maxRetryAfter is the longest Retry-After that llmsup waits for. Longer ones are
	// left to the client.
	maxRetryAfter = 5 * time.Second
	// DeclinesWithin is the time within which a 503 means overload, and not an aborted
	// generation.
	DeclinesWithin = time.Second
)

// payload returns the body as it is sent to the backend.
func (a *Attempt) payload() request.Payload {
	if form := a.Lease.Form; form != nil {
		return form.WithModel(a.Model)
	}
	return a.Request.Body.WithModel(a.Model)
}

// withTrace makes the transport record how far the request got.
func (a *Attempt) withTrace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { a.connected.Store(true) },
		WroteHeaders: func() { a.wroteHeaders.Store(true) },
	})
}

// SendFailure returns the failure of an attempt for which Send returned an error.
func (a *Attempt) SendFailure(err error) *Failure {
	sent := a.wroteHeaders.Load()
	fair := waitedLongEnough(time.Since(a.sentAt), sent, a.Request.Body.Stream)
	switch {
	case !sent:
		return &Failure{Reason: Connect, Detail: "cannot be reached: " + wire.RootCause(err), HadFairChance: fair}
	case unprocessed(err):
		return &Failure{Reason: Lost, Detail: "lost the connection: " + wire.RootCause(err), HadFairChance: fair}
	}
	return &Failure{Reason: Lost, Phase: Sent, Detail: "lost the connection: " + wire.RootCause(err), HadFairChance: fair}
}

// send sends a request, and repeats it as long as mayRetry allows.
func (a *Attempt) send(ctx context.Context, transport http.RoundTripper, req *http.Request) (*http.Response, error) {
	payload, header := a.payload(), req.Header
	req.Header = http.Header{} // once adds the header: http.Client would copy it for each request
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: once{transport, header},
			// A redirect would turn a POST into a GET, and send the key to another host.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax: MaxRetries, RetryWaitMin: firstBackoff, RetryWaitMax: maxBackoff,
		CheckRetry: a.checkRetry, Backoff: backoff, ErrorHandler: passThrough,
		PrepareRetry: func(*http.Request) error {
			a.sentAt = time.Now()
			a.connected.Store(false)
			a.wroteHeaders.Store(false)
			return nil
		},
	}
	a.sentAt = time.Now()
	retryable, err := retryablehttp.FromRequest(req.WithContext(a.withTrace(ctx)))
	if err != nil {
		return nil, err
	}
	if err := retryable.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) { return payload.Open(), nil })); err != nil {
		return nil, err
	}
	return client.Do(retryable)
}

// checkRetry decides whether a request is repeated: only if nothing can have been generated,
// and so billed. It was not sent at all, or the HTTP/2 peer reports that it was not
// processed, or the peer was overloaded. After an overload the request is repeated only if
// the call has no other backend and the wait fits the deadline. A call that has another
// backend moves there at once if no connection can be made.
func (a *Attempt) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil && !a.connected.Load() && a.Alternative.Allows(Connect) {
		return false, nil
	}
	if err != nil {
		return !a.wroteHeaders.Load() || unprocessed(err), nil
	}
	overloaded := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable && declinedRequest(resp, a.sentAt)
	if !overloaded || a.Alternative.Allows(Status) {
		return false, nil
	}
	wait, ok := retryAfter(resp)
	if !ok {
		wait = maxBackoff
	}
	return wait <= maxRetryAfter && time.Now().Add(wait).Before(a.Deadline) && !quotaUsedUp(resp), nil
}

// quotaUsedUp is QuotaUsedUp of a response whose body has not been read. It can be read
// afterwards.
func quotaUsedUp(resp *http.Response) bool {
	if resp.StatusCode != http.StatusTooManyRequests {
		return false
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody)) // an error is returned again at the next read
	resp.Body = readCloser{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
	return (&Response{Status: resp.StatusCode, Body: body}).QuotaUsedUp()
}

// readCloser reads from one source and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}

// unprocessed reports whether an HTTP/2 error proves that the peer has not processed the
// request (RFC 9113, 8.7): its stream was refused, or is above the last stream that a
// GOAWAY names. net/http exposes these errors only as text, wrapped in another text if
// the request cannot be rewound. The comparison is exact: text from the peer, such as a
// GOAWAY's debug data, appears only inside longer errors.
func unprocessed(err error) bool {
	text := wire.RootCause(err)
	if rest, ok := strings.CutPrefix(text, "http2: Transport: cannot retry err ["); ok {
		text = strings.TrimSuffix(rest, "] after Request.Body was written; define Request.GetBody to avoid this error")
	}
	return text == "http2: Transport received Server's graceful shutdown GOAWAY" || refusedStream.MatchString(text)
}

var refusedStream = regexp.MustCompile(`^stream error: stream ID [0-9]+; REFUSED_STREAM; received from peer$`)

// declinedRequest reports whether a backend that answered 503 did not process the request:
// it answered at once, or with a Retry-After. A late 503 without one may be that of a
// gateway whose backend failed while it generated.
func declinedRequest(resp *http.Response, since time.Time) bool {
	return resp.Header.Get("Retry-After") != "" || time.Since(since) < DeclinesWithin
}

// passThrough returns the upstream's own answer instead of "giving up after".
func passThrough(resp *http.Response, err error, _ int) (*http.Response, error) {
	if err != nil && resp != nil { // the call was cancelled when the response arrived
		_ = resp.Body.Close()
		resp = nil
	}
	return resp, err
}

// backoff returns how long to wait before a request is repeated.
func backoff(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil {
		if wait, ok := retryAfter(resp); ok {
			return wait
		}
	}
	return retryablehttp.DefaultBackoff(least, most, attempt, nil)
}

// retryAfter parses a Retry-After in seconds. A date is ignored: clocks differ.
func retryAfter(resp *http.Response) (wait time.Duration, ok bool) {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0, false
	}
	seconds = min(seconds, 24*60*60)
	return time.Duration(seconds) * time.Second, true
}

// once sends each request without GetBody. With GetBody, net/http's HTTP/2 repeats a
// request that the peer has read, without a limit, when its stream is reset; such a
// request may have been billed.
//
// It has no CloseIdleConnections: retryablehttp would close all idle connections after
// each failed call.
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
