package router

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/aggregate"
)

// progress is what is known of an attempt while it goes on, carried in its
// context to whoever decides about repeating it.
type progress struct {
	sent     atomic.Bool             // its head has been written; by the transport's goroutine, which can outlive a cancelled call
	deadline time.Time               // for the first answer
	since    time.Time               // when it was sent last, or was to be
	got      atomic.Bool             // it has a connection
	other    alternative             // where the call can go instead
	form     *aggregate.Form         // in which the call is sent; nil = as it is
	reserved *accounting.Reservation // what the attempt may cost; nil = nothing
	local    bool                    // it goes to a llama-server of llmsup's own
	header   http.Header             // of the request to an upstream, which onceOnly puts in
}

type progressKey struct{}

func withProgress(ctx context.Context, p *progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

func progressOf(ctx context.Context) *progress {
	if p, ok := ctx.Value(progressKey{}).(*progress); ok {
		return p
	}
	return &progress{}
}

const (
	// repeats is how often a request may be sent again.
	repeats     = 2
	repeatFirst = 250 * time.Millisecond
	repeatMost  = time.Second
	// askedMost is the longest Retry-After that is waited for. Whoever asks for
	// more is answered by the client's own patience.
	askedMost = 5 * time.Second
	// declinesWithin: a 503 within this time means overload, not an aborted generation.
	declinesWithin = time.Second
)

// mayRepeat decides whether a request is sent again: only where nothing can have
// been generated, and so billed. That is where it was not sent at all, where the
// peer says so by the protocol, and where the peer was overloaded (429, or a 503 that
// declined accepts), if the call has no other backend and the wait fits the deadline.
// A call that has another backend also moves there at once when no connection can be
// made.
func mayRepeat(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	p := progressOf(ctx)
	if err != nil && !p.got.Load() && p.other.allows(Connect) {
		return false, nil
	}
	if err != nil {
		return !p.sent.Load() || unprocessed(err), nil
	}
	noRoom := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable && declined(resp, p.since)
	if !noRoom || p.other.allows(Status) {
		return false, nil
	}
	wait, asked := retryAfter(resp)
	if !asked {
		wait = repeatMost
	}
	return wait <= askedMost && time.Now().Add(wait).Before(p.deadline), nil
}

// unprocessed says whether an error of HTTP/2 proves that the peer has done nothing
// about the request (RFC 9113, 8.7): its stream was refused, or is above the last one
// that a GOAWAY names. net/http has these as text alone, which it puts into another
// text where the request can't be rewound. The comparison is exact: what a
// peer writes, such as a GOAWAY's debug data, appears only inside longer errors.
func unprocessed(err error) bool {
	text := rootCause(err)
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
	return resp.Header.Get("Retry-After") != "" || time.Since(since) < declinesWithin
}

// ownAnswer hands on the upstream's own answer, and not "giving up after".
func ownAnswer(resp *http.Response, err error, _ int) (*http.Response, error) {
	if err != nil && resp != nil { // the call ended when it came
		_ = resp.Body.Close()
		resp = nil
	}
	return resp, err
}

// pauseBefore is how long to wait before a request is sent again.
func pauseBefore(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil {
		if wait, asked := retryAfter(resp); asked {
			return wait
		}
	}
	return retryablehttp.DefaultBackoff(least, most, attempt, nil)
}

// retryAfter reads how long a backend asks to be left alone. A date is passed
// over: clocks differ.
func retryAfter(resp *http.Response) (wait time.Duration, asked bool) {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0, false
	}
	seconds = min(seconds, 24*60*60)
	return time.Duration(seconds) * time.Second, true
}

// onceOnly hands each request on without the means to send it again. With them,
// net/http's HTTP/2 repeats requests that the peer has read, by itself and
// without a limit, when their stream is reset; such a one may have been paid for.
//
// Nor does it say that it has idle connections: retryablehttp would close them
// all after each call that fails.
//
// It puts the header in: http.Client would copy it for each call, in case of a
// redirect, which isn't followed.
type onceOnly struct{ transport *upstreamTransport }

// RoundTrip implements http.RoundTripper.
func (t onceOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	once := *req
	once.GetBody = nil
	once.Header = progressOf(req.Context()).header
	return t.transport.RoundTrip(&once)
}
