package backend

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// upstreamIdle is how long a connection to an upstream may be idle. Many servers
// close theirs after 5 s, and a request that coincides with the close cannot be repeated.
const upstreamIdle = 4 * time.Second

// keepAliveMargin is how long before the upstream's announced timeout an idle connection
// is closed.
const keepAliveMargin = time.Second

// upstreamTransport closes idle connections before the upstream does.
type upstreamTransport struct {
	current atomic.Pointer[http.Transport]
}

// RoundTrip implements http.RoundTripper.
func (t *upstreamTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.current.Load().RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if limit, known := keepAliveTimeout(resp.Header); known && resp.ProtoMajor == 1 {
		t.closeIdleAfter(limit - keepAliveMargin)
	}
	return resp, nil
}

// closeIdleAfter shortens the idle time, for as long as llmsup runs. The fields of a
// transport must not change while it is in use, so a copy replaces it. The calls of the
// old transport finish there, on their connections.
func (t *upstreamTransport) closeIdleAfter(idle time.Duration) {
	for {
		old := t.current.Load()
		if old.DisableKeepAlives || old.IdleConnTimeout <= idle {
			return
		}
		next := old.Clone()
		if next.IdleConnTimeout = idle; idle <= 0 {
			next.DisableKeepAlives = true
		}
		if t.current.CompareAndSwap(old, next) {
			old.CloseIdleConnections()
			return
		}
	}
}

// keepAliveTimeout parses how long an upstream keeps an idle connection open, from
// "Keep-Alive: timeout=5, max=100" (RFC 2068, 19.7.1.1).
func keepAliveTimeout(h http.Header) (limit time.Duration, known bool) {
	for _, value := range h["Keep-Alive"] {
		for parameter := range strings.SplitSeq(value, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			seconds, err := strconv.ParseUint(strings.Trim(value, `" `), 10, 16)
			if err == nil && strings.EqualFold(strings.TrimSpace(name), "timeout") {
				return time.Duration(seconds) * time.Second, true
			}
		}
	}
	return 0, false
}
