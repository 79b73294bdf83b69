package backend

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/llmsup/llmsup/router/request"
)

// SendFree sends an admitted call to a server that bills nothing, so that net/http may send it
// again if it was written to a connection that was being closed. It adds to the header.
func (a *Attempt) SendFree(ctx context.Context, transport http.RoundTripper, address *url.URL, header http.Header) (*http.Response, error) {
	r, payload := a.Request, a.payload()
	header["X-Idempotency-Key"] = []string{} // what lets it send again; an empty value is not sent (net/http.Transport)
	a.sentAt = time.Now()
	req := (&http.Request{
		Method: r.Method, URL: address, Host: address.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: request.AsBody(payload.Open()), ContentLength: int64(payload.Size()),
		GetBody: func() (io.ReadCloser, error) { return request.AsBody(payload.Open()), nil },
	}).WithContext(a.withTrace(ctx))
	if r.Method == http.MethodGet {
		req.Body, req.GetBody = nil, nil
	}
	return transport.RoundTrip(req)
}

// Connected reports whether the last request had a connection.
func (a *Attempt) Connected() bool { return a.connected.Load() }

// SendWithKeepAlive calls send, and until it has returned notifies the client that the call waits
// for its model.
func (a *Attempt) SendWithKeepAlive(send func() (*http.Response, error)) (*http.Response, error) {
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := send() //nolint:bodyclose // the caller closes it
		done <- result{resp, err}
	}()
	wait := modelWait{attempt: a}
	wait.update(true)
	defer wait.end()
	for {
		select {
		case <-wait.due():
			wait.notify()
		case got := <-done:
			return got.resp, got.err
		}
	}
}
