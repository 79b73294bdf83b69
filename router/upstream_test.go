package router

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/net/http2"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// TestRejectedIsRetried: an upstream that has no room for a call is asked again, as its
// Retry-After says, if the call has no other backend.
func TestRejectedIsRetried(t *testing.T) {
	for name, tc := range map[string]struct {
		model  string
		behave func(n int32, w http.ResponseWriter)
		status int
		calls  int
	}{
		"429, then an answer": {"gpt-4o", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 3, 429, "0") }, 200, 3},
		"503, then an answer": {"gpt-4o", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 2, 503, "") }, 200, 2},
		"429 for ever":        {"gpt-4o", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 99, 429, "0") }, 429, 3},
		"429 for too long":    {"gpt-4o", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 99, 429, "60") }, 429, 1},
		"with a fallback":     {"cloud-first", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 99, 429, "0") }, 200, 1},
		"another error":       {"gpt-4o", func(n int32, w http.ResponseWriter) { rejectUntil(w, n, 99, 500, "0") }, 500, 1},
		"no credit":           {"gpt-4o", func(_ int32, w http.ResponseWriter) { rejectForQuota(w) }, 429, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			b := newFixture(t, answers, func(w http.ResponseWriter, _ *http.Request) { tc.behave(n.Add(1), w) }, func(_ *plan.Config, routes map[string]models.Route) {
				routes["cloud-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Minute}
			})
			if r := b.chat(tc.model, false); r.status != tc.status || len(b.cloud.requests()) != tc.calls {
				t.Errorf("status %d after %d calls, want %d after %d: %s", r.status, len(b.cloud.requests()), tc.status, tc.calls, r.body)
			} else if name == "no credit" && !strings.Contains(r.body, `"code":"insufficient_quota"}}`) {
				t.Errorf("the upstream's error is not whole: %s", r.body)
			}
		})
	}
}

// rejectForQuota is OpenAI's answer for an account without credit.
func rejectForQuota(w http.ResponseWriter) {
	status(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`, "Retry-After", "0")(w, nil)
}

// TestUnreachableMoves: a call that gets no connection moves to its fallback at once;
// without one it is tried again.
func TestUnreachableMoves(t *testing.T) {
	for name, tc := range map[string]struct {
		on       []string
		fallback string
		dials    int32
	}{
		"a fallback":                {nil, "qwen", 1},
		"a fallback for this":       {[]string{"connect"}, "qwen", 1},
		"a fallback for other ends": {[]string{"status"}, "qwen", 1 + backend.MaxRetries},
		"no other backend":          {nil, "", 1 + backend.MaxRetries},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t, answers, answers, func(_ *plan.Config, routes map[string]models.Route) {
				routes["cloud-first"] = models.Route{Primary: "openrouter", Fallback: tc.fallback, FallbackOn: models.NewWordList(tc.on...), Timeout: time.Minute}
			})
			var dials atomic.Int32
			transport(t, b).DialContext = func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				return nil, errors.New("connection refused")
			}
			r := b.chat("cloud-first", false)
			if moved := tc.dials == 1; dials.Load() != tc.dials || moved != (r.status == 200) || r.reason() != "connect" {
				t.Errorf("%d dials, want %d: %+v", dials.Load(), tc.dials, r)
			}
		})
	}
}

func rejectUntil(w http.ResponseWriter, n, answer int32, code int, retryAfter string) {
	if n >= answer {
		writeAnswer(w, nil, false)
		return
	}
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(code)
}

// TestOpenBreakerCostsNoTime: after some failures no call waits for the upstream, until
// one trial call has reached it again.
func TestOpenBreakerCostsNoTime(t *testing.T) {
	untilInTime(t, openBreakerCostsNoTime)
}

// untilInTime repeats a test of an upstream whose breaker is open, if that was longer than a breaker
// stays open: a busy machine can be the reason. The test returns when the breaker opened, and what was
// wrong while it was open.
func untilInTime(t *testing.T, test func(*testing.T) (opened time.Time, wrong []string)) {
	t.Helper()
	for try := 1; ; try++ {
		opened, wrong := test(t)
		if len(wrong) == 0 {
			return
		}
		if took := time.Since(opened); took < backend.FirstOpen || try == 5 {
			t.Fatalf("%s after the breaker opened: %s", took, strings.Join(wrong, "\n"))
		}
	}
}

func openBreakerCostsNoTime(t *testing.T) (opened time.Time, wrong []string) {
	t.Helper()
	var dead atomic.Bool
	dead.Store(true)
	b := newFixture(t, answers, func(w http.ResponseWriter, r *http.Request) {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		answers(w, r)
	}, func(_ *plan.Config, routes map[string]models.Route) {
		routes["cloud-first"] = models.Route{Primary: "openrouter", Fallback: "qwen", Timeout: time.Minute}
	})
	for range backend.BreakAfter {
		opened = time.Now()
		if r := b.chat("cloud-first", false); r.backend() != "qwen" || r.reason() != "lost" {
			t.Fatalf("%+v", r)
		}
	}
	asked := len(b.cloud.requests())
	if r := b.chat("cloud-first", false); r.backend() != "qwen" || r.reason() != "lost" || len(b.cloud.requests()) != asked {
		wrong = append(wrong, fmt.Sprintf("asked %d times more: %+v", len(b.cloud.requests())-asked, r))
	}
	if r := b.chat("gpt-4o", false); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "several times in a row") || len(b.cloud.requests()) != asked {
		wrong = append(wrong, fmt.Sprintf("without a fallback: %+v", r))
	}
	if up := b.router.Upstreams(); len(up) != 1 || !strings.Contains(up[0].Reason, "it is tried again in") {
		wrong = append(wrong, fmt.Sprintf("%+v", up))
	}
	// A degraded server is better than a fallback that is down.
	b.state.edit(func(s *backend.LocalState) { s.Reason, s.Detail = backend.Degraded, "is degraded" })
	if r := b.chat("local/qwen", false); r.status != 200 || r.backend() != "qwen" {
		wrong = append(wrong, fmt.Sprintf("%+v", r))
	}
	if len(wrong) > 0 {
		return opened, wrong
	}

	dead.Store(false)
	u, ok := b.router.routing.Load().Backends["openrouter"].(*backend.Upstream)
	if !ok {
		t.Fatal("no upstream")
	}
	eventually(t, "the breaker lets a call try it", func() bool { return u.BreakerState(time.Now()) == backend.BreakerHalfOpen })
	if r := b.chat("gpt-4o", false); r.status != 200 || r.backend() != "openrouter" {
		t.Errorf("%+v", r)
	}
	if up := b.router.Upstreams(); up[0].Reason != "" || !strings.Contains(b.log.String(), "the upstream answers again") {
		t.Errorf("%+v", up)
	}
	return opened, nil
}

// TestApplicationNames: what OpenRouter's statistics call the application.
func TestApplicationNames(t *testing.T) {
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) {
		c.Upstreams[0].Referer, c.Upstreams[0].Title = "https://example.org", "Drafts"
	})
	b.chat("gpt-4o", false)
	b.post("/v1/chat/completions", `{"model":"gpt-4o"}`, "X-Title", "its own")
	got := b.cloud.requests()
	if h := got[0].header; h.Get("Http-Referer") != "https://example.org" || h.Get("X-Title") != "Drafts" {
		t.Errorf("%v", h)
	}
	if h := got[1].header; h.Get("Http-Referer") != "https://example.org" || h.Get("X-Title") != "its own" {
		t.Errorf("%v", h)
	}
}

// newTLSUpstream makes a fixture whose upstream is a TLS server of the test.
func newTLSUpstream(t *testing.T, url string, roots *tls.Config) *fixture {
	t.Helper()
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].BaseURL = url })
	transport(t, b).TLSClientConfig = &tls.Config{RootCAs: roots.RootCAs, MinVersion: tls.VersionTLS12}
	return b
}

// transport is that of a fixture's upstream.
func transport(t *testing.T, b *fixture) *http.Transport {
	t.Helper()
	u, ok := b.router.routing.Load().Backends["openrouter"].(*backend.Upstream)
	if !ok {
		t.Fatal("no upstream")
	}
	return u.Transport()
}

func TestUpstreamUsesHTTP2(t *testing.T) {
	var proto atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		_, _ = io.Copy(io.Discard, r.Body)
		answers(w, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport, ok := server.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	b := newTLSUpstream(t, server.URL, transport.TLSClientConfig)
	if r := b.chat("gpt-4o", false); r.status != 200 || proto.Load() != "HTTP/2.0" {
		t.Errorf("%d %s over %v", r.status, r.body, proto.Load())
	}
}

// TestHTTP2SendsOnce: a request that the upstream has read is sent once, however its
// stream ends; one that a stream error or GOAWAY proves to be unprocessed is sent again.
// net/http's own HTTP/2 would repeat it as long as the call lasts.
func TestHTTP2SendsOnce(t *testing.T) {
	const text = "graceful shutdown GOAWAY; REFUSED_STREAM; received from peer"
	reset := func(code http2.ErrCode) http2Handler {
		return func(f *http2.Framer, stream uint32) error { return f.WriteRSTStream(stream, code) }
	}
	away := func(last uint32, code http2.ErrCode, debug string) http2Handler {
		return func(f *http2.Framer, stream uint32) error {
			if err := f.WriteGoAway(min(last, stream), code, []byte(debug)); err != nil {
				return err
			}
			return io.EOF // and the connection is closed
		}
	}
	for name, tc := range map[string]struct {
		end  http2Handler
		want int32
	}{
		"PROTOCOL_ERROR":               {reset(http2.ErrCodeProtocol), 1},
		"INTERNAL_ERROR":               {reset(http2.ErrCodeInternal), 1},
		"CANCEL":                       {reset(http2.ErrCodeCancel), 1},
		"ENHANCE_YOUR_CALM":            {reset(http2.ErrCodeEnhanceYourCalm), 1},
		"REFUSED_STREAM":               {reset(http2.ErrCodeRefusedStream), 1 + backend.MaxRetries},
		"GOAWAY before it":             {away(0, http2.ErrCodeNo, ""), 1 + backend.MaxRetries},
		"GOAWAY after it":              {away(math.MaxInt32, http2.ErrCodeNo, ""), 1},
		"GOAWAY after it, with a text": {away(math.MaxInt32, http2.ErrCodeNo, text), 1},
		"a code and a text":            {away(math.MaxInt32, http2.ErrCodeRefusedStream, text), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var read atomic.Int32
			b := newHTTP2Upstream(t, func(f *http2.Framer, stream uint32) error {
				read.Add(1)
				return tc.end(f, stream)
			})
			if r := b.chat("gpt-4o", false); r.status != 502 {
				t.Errorf("%d %s", r.status, r.body)
			}
			if read.Load() != tc.want {
				t.Errorf("the request was read %d times, want %d", read.Load(), tc.want)
			}
		})
	}
}

// http2Handler is what an HTTP/2 upstream does once it has read a request; after an error
// it closes the connection.
type http2Handler func(f *http2.Framer, stream uint32) error

// newHTTP2Upstream makes a fixture whose upstream reads requests to their end, over
// HTTP/2.
func newHTTP2Upstream(t *testing.T, end http2Handler) *fixture {
	t.Helper()
	certs := httptest.NewTLSServer(nil)
	t.Cleanup(certs.Close)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: certs.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveHTTP2(conn, end)
		}
	}()
	transport, ok := certs.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	return newTLSUpstream(t, "https://"+listener.Addr().String(), transport.TLSClientConfig)
}

func serveHTTP2(conn net.Conn, end http2Handler) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && frame.Header().Type == http2.FrameData && end(framer, frame.Header().StreamID) != nil {
			return
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() && framer.WriteSettingsAck() != nil {
			return
		}
	}
}

// TestFailedCallsKeepConnections: a call that fails does not close the connections of
// others.
func TestFailedCallsKeepConnections(t *testing.T) {
	var opened atomic.Int32
	const calls = 4
	// Calls that are there at the same time have a connection each.
	arrived, proceed := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "bad") {
			panic(http.ErrAbortHandler)
		}
		arrived <- struct{}{}
		<-proceed
		answers(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	b := newFixture(t, answers, answers, func(c *plan.Config, _ map[string]models.Route) { c.Upstreams[0].BaseURL = server.URL })
	round := func() {
		t.Helper()
		done := make(chan reply, calls)
		for range calls {
			go func() { done <- b.chat("gpt-4o", false) }()
		}
		for range calls {
			<-arrived
		}
		for range calls {
			proceed <- struct{}{}
		}
		for range calls {
			if r := <-done; r.status != 200 {
				t.Errorf("%+v", r)
			}
		}
	}
	round()
	if r := b.post("/v1/chat/completions", `{"model":"gpt-4o","user":"bad"}`); r.status != 502 {
		t.Errorf("%+v", r)
	}
	if round(); opened.Load() > calls+1 {
		t.Errorf("%d connections for %d calls at a time, of which one failed", opened.Load(), calls)
	}
}

// TestBothCausesWhenRejected: if the local server and its fallback are both unavailable,
// the error names both causes.
func TestBothCausesWhenRejected(t *testing.T) {
	untilInTime(t, bothCausesWhenRejected)
}

func bothCausesWhenRejected(t *testing.T) (opened time.Time, wrong []string) {
	t.Helper()
	b := newFixture(t, breaks, breaks)
	for range backend.BreakAfter {
		opened = time.Now()
		b.chat("gpt-4o", false)
	}
	wants := func(r reply, words ...string) {
		for _, w := range append(words, "openrouter lost the connection", "several times in a row") {
			if !strings.Contains(r.body, w) {
				wrong = append(wrong, fmt.Sprintf("no %q in %d %s", w, r.status, r.body))
			}
		}
	}
	asked := len(b.cloud.requests())
	wants(b.chat("local/qwen", false), "qwen lost the connection")
	b.state.edit(func(s *backend.LocalState) {
		s.Alive, s.Reason, s.Detail = false, backend.Restarting, "is restarting: exit status 1"
	})
	r := b.chat("local/qwen", false)
	wants(r, "is restarting: exit status 1", `"code":"restarting"`)
	if r.status != 503 || r.header.Get("Retry-After") == "" || len(b.cloud.requests()) != asked {
		wrong = append(wrong, fmt.Sprintf("%+v", r))
	}
	if e := b.router.Explain("local/qwen"); !strings.Contains(e.Rejected, "several times in a row") {
		wrong = append(wrong, fmt.Sprintf("%+v", e))
	}
	return opened, wrong
}

// TestTLSErrors: an upstream with an untrusted certificate, or without TLS, counts as not
// reached, and the call moves.
func TestTLSErrors(t *testing.T) {
	untrusted := httptest.NewTLSServer(http.HandlerFunc(answers))
	untrusted.Config.ErrorLog = nil
	defer untrusted.Close()
	plain := httptest.NewServer(http.HandlerFunc(answers))
	defer plain.Close()
	for name, url := range map[string]string{
		"an untrusted certificate": untrusted.URL, "no TLS at all": strings.Replace(plain.URL, "http:", "https:", 1),
	} {
		b := newFixture(t, answers, answers, func(c *plan.Config, routes map[string]models.Route) {
			c.Upstreams = append(c.Upstreams, backend.UpstreamConfig{Name: "secure", BaseURL: url, Key: "k"})
			routes["secure-first"] = models.Route{Primary: "secure", Fallback: "qwen", Timeout: time.Minute}
			routes["secure"] = models.Route{Primary: "secure", Timeout: time.Minute}
		})
		if r := b.chat("secure-first", false); r.status != 200 || r.backend() != "qwen" || r.reason() != "connect" {
			t.Errorf("%s: %+v", name, r)
		}
		if r := b.chat("secure", false); r.status != 502 || gjson.Get(r.body, "error.code").Str != "connect" {
			t.Errorf("%s, alone: %+v", name, r)
		}
	}
}
