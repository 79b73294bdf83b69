package page

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// Prefix is the path below which the page is served.
const Prefix = "/ui/"

// Router is what the page needs of the endpoint.
type Router interface {
	// Access returns the present access policy.
	Access() *access.Policy
	// ServeFor serves a request of a client that the caller has authenticated; nil = keys
	// are not required.
	ServeFor(key *access.Key, w http.ResponseWriter, r *http.Request)
}

// Options are what a Handler serves.
type Options struct {
	Feed   *feed.Feed
	Router Router
	Daemon Daemon
	Logs   Logs
	Disk   Disk
	Puller Puller
	Log    zerolog.Logger
}

// Handler serves the page. It is an http.Handler, safe for concurrent use.
type Handler struct {
	o        Options
	enabled  atomic.Bool
	sessions sessions
	failures failures
	static   map[string]file
	paths    *http.ServeMux

	closing context.Context //nolint:containedctx // of all streams; it ends when llmsup stops
	end     context.CancelFunc
	open    streams
}

// New returns a handler. It is disabled until Enable.
func New(o Options) *Handler {
	h := &Handler{o: o, static: files()}
	h.closing, h.end = context.WithCancel(context.Background())
	h.sessions.open = map[[32]byte]*session{}
	h.failures.of = map[string]attempts{}
	h.paths = http.NewServeMux()
	h.handlePages()
	h.handleSessions()
	h.handleCommands()
	h.handleCalls()
	h.handleModelFiles()
	h.handleFit()
	h.paths.Handle("GET /ui/events", h.forViewers(h.events))
	h.paths.Handle("POST /ui/v1/chat/completions", h.forViewers(h.call))
	h.paths.HandleFunc("/", h.notFound)
	return h
}

// Enable turns the page on or off. Turning it off ends no stream that is open.
func (h *Handler) Enable(on bool) { h.enabled.Store(on) }

// Enabled reports whether the page is served.
func (h *Handler) Enabled() bool { return h.enabled.Load() }

// Close ends all event streams, so that they do not delay the stop of llmsup.
func (h *Handler) Close() { h.end() }

// Mount returns a handler that serves the page, and everything else as next does. A browser
// that asks for / is sent to the page.
func (h *Handler) Mount(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !h.enabled.Load():
			next.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, Prefix):
			h.ServeHTTP(w, r)
		case r.URL.Path == "/ui", r.URL.Path == "/" && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, Prefix, http.StatusFound)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// bodyTimeout is how long the body of a request to the page may take to arrive.
const bodyTimeout = 10 * time.Second

// ServeHTTP serves a request below /ui/.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setSecurityHeaders(w.Header())
	if e := verifySource(h.o.Router.Access(), r); e.Status != 0 {
		h.o.Log.Info().Int("status", e.Status).Str("code", e.Code).Str("from", r.RemoteAddr).Msg("request for the page rejected")
		writeError(w, e)
		return
	}
	h.paths.ServeHTTP(w, r)
}

// contentPolicy lets the page load only files of llmsup itself, run no script that is not
// one of them, and be shown in no other page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

func setSecurityHeaders(header http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      contentPolicy,
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"X-Frame-Options":              "DENY",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store", // the files replace it
	} {
		header.Set(name, value)
	}
}

// writeError writes an error in OpenAI's form.
func writeError(w http.ResponseWriter, e wire.Error) { wire.WriteError(w, wire.Chat, e) }

// notFound answers a browser that was sent to an unknown address with the page, which says so.
func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		f := h.static[indexFile]
		w.Header().Set("Content-Type", f.mimeType)
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write(f.content) // fails only if the client closed the connection
		return
	}
	writeError(w, wire.Error{
		Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeNotFound,
		Message: "the page has nothing at this path with this method; it is at " + Prefix,
	})
}
