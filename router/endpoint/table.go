package endpoint

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Endpoint is a path at which calls are taken.
type Endpoint struct {
	Path         string       // as backends know it, such as /v1/chat/completions
	Dialect      wire.Dialect // of its answers and errors
	DefaultModel string       // the model of a call that names none; "" = such a call is rejected
	Form         bool         // a body may be a form

	// The rest is that of a local server's own API; nil = the path is public.
	Engine *models.Endpoint
}

// Table has all endpoints. It is immutable.
type Table struct {
	byPath   map[string]*Endpoint
	prefixes map[string]*Endpoint // of paths whose last element may be any, by what precedes it
	aliases  map[string]string
}

// NewTable returns the table of the public endpoints and of those of the local servers'
// engine.
func NewTable(engine models.Capabilities) *Table {
	t := &Table{byPath: map[string]*Endpoint{}, prefixes: map[string]*Endpoint{}, aliases: engine.Aliases}
	for path, e := range Public {
		e.Path = path
		t.byPath[path] = &e
	}
	for _, own := range engine.Endpoints {
		e := &Endpoint{Path: own.Path, Dialect: wire.Generic{}, DefaultModel: models.LocalName, Engine: &own}
		if prefix, ok := strings.CutSuffix(own.Path, "{}"); ok {
			t.prefixes[prefix] = e
		} else {
			t.byPath[own.Path] = e
		}
	}
	return t
}

// At returns the endpoint of a path that Main has returned; nil = there is none.
func (t *Table) At(path string) *Endpoint {
	if e := t.byPath[path]; e != nil {
		return e
	}
	if at := strings.LastIndexByte(path, '/') + 1; at < len(path) {
		return t.prefixes[path[:at]]
	}
	return nil
}

// Public returns the endpoint of a public API that clients mean by one of a local server's
// own API if their model is an upstream's; nil = there is none.
func (t *Table) Public(e *Endpoint) *Endpoint {
	if e.Engine == nil {
		return nil
	}
	return t.byPath[e.Engine.Public]
}

// Main returns the path for which a request's path stands: a slash at its end makes no
// difference, and an alias stands for another path.
func (t *Table) Main(requested string) string {
	if t.byPath[requested] != nil {
		return requested
	}
	if trimmed := strings.TrimRight(requested, "/"); trimmed != "" {
		requested = trimmed
	}
	if main, ok := t.aliases[requested]; ok {
		return main
	}
	return requested
}

// DialectOf returns the dialect of the errors of a request, and whether its path is that of
// an endpoint. Paths below /v1/messages are Anthropic's, and so is a client that names a
// version of Anthropic's API, except at an endpoint of another API.
func (t *Table) DialectOf(r *http.Request) (d wire.Dialect, known bool) {
	if e := t.At(r.URL.Path); e != nil {
		return e.Dialect, true
	}
	if strings.HasPrefix(r.URL.Path, "/v1/messages/") || r.Header.Get("Anthropic-Version") != "" {
		return wire.Messages{}, false
	}
	return wire.Chat, false
}

// Suggest returns the public path that a client probably meant by an unknown one; "" =
// none comes to mind. Most have the wrong base URL: a part of the path is missing before
// it, or there is too much.
func (t *Table) Suggest(unknown string) string {
	best := ""
	for path := range Public {
		ending := strings.TrimPrefix(path, "/v1")
		if (strings.HasSuffix(unknown, path) || unknown == ending || strings.HasSuffix(unknown, ending)) && len(path) > len(best) {
			best = path
		}
	}
	return best
}

// Methods returns the methods that the endpoint accepts.
func (e *Endpoint) Methods() []string {
	switch {
	case e.Engine == nil || !e.Engine.Get:
		return []string{http.MethodPost}
	case !e.Engine.Post:
		return []string{http.MethodGet}
	default:
		return []string{http.MethodGet, http.MethodPost}
	}
}

// Accepts reports whether the endpoint accepts a method. HEAD is a GET whose answer
// net/http sends without its body.
func (e *Endpoint) Accepts(method string) bool {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	return slices.Contains(e.Methods(), method)
}

// LocalOnly reports whether only a local server has the endpoint.
func (e *Endpoint) LocalOnly() bool { return e.Engine != nil }

// ForOperators reports whether only an operator's key may use the endpoint.
func (e *Endpoint) ForOperators() bool { return e.Engine != nil && e.Engine.Server }

// Query returns the part of a request's query that the local server receives.
func (e *Endpoint) Query(query url.Values) string {
	forwarded := url.Values{}
	for _, name := range e.Engine.Query {
		if values := query[name]; len(values) > 0 {
			forwarded[name] = values
		}
	}
	return forwarded.Encode()
}
