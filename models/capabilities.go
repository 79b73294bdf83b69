package models

import (
	"regexp"
	"slices"

	"github.com/tidwall/gjson"
)

// Capabilities is what the router has to know about the program behind a local server, its
// engine. Each engine's package has the values (supervisor/llamacpp, supervisor/generic), and
// cmd passes them to the router.
type Capabilities struct {
	Program string // its name, for messages
	// CompleteStreams says that a streamed answer contains all that a whole answer to
	// the same request would, so that the router may stream instead.
	CompleteStreams bool
	// PartialResponses says that its answers at /v1/responses lack fields and events that
	// OpenAI's schema requires: the router adds them. It also requires more of a
	// request's input than the schema.
	PartialResponses bool
	// Fields are those fields of a request that only this engine knows.
	Fields EngineFields
	// Endpoints are the paths of its own API, beyond those of OpenAI and Anthropic. The
	// router serves them for local models only.
	Endpoints []Endpoint
	// Aliases are further paths of endpoints, by the path that each of them stands for.
	Aliases map[string]string
	// BasePath takes the place of /v1 in the public paths, as the path of an upstream's base URL
	// does; "" = the paths stay as they are.
	BasePath string
	// Public are the paths of public APIs, such as OpenAI's, that it has; nil = unknown: it may
	// have each of them, and answers 404, 405 or 501 at those that it lacks.
	Public []string
	// Generating are the paths of calls that only a model can answer that generates text.
	Generating []string
	// Slots is how a call occupies the slots of a server.
	Slots SlotUse
	// Rejections are the errors that it answers as its own (5xx) although they are about the
	// request: the same request fails again.
	Rejections []Rejection
}

// Rejection is an error that means that the server rejects the request.
type Rejection struct {
	Message *regexp.Regexp
	Reason  Reason // ReasonContextOverflow or ReasonUnsupported if another backend may serve the request, else ReasonStatus
	Advice  string // what the client or the operator can do; "" = the message says it
}

// HasPublic reports whether the engine has a path of a public API, or may have it.
func (c *Capabilities) HasPublic(path string) bool {
	return c.Public == nil || slices.Contains(c.Public, path)
}

// HasOwn reports whether the engine has an endpoint of its own API, by its Path.
func (c *Capabilities) HasOwn(path string) bool {
	return slices.ContainsFunc(c.Endpoints, func(e Endpoint) bool { return e.Path == path })
}

// Endpoint is a path of an engine's own API.
type Endpoint struct {
	Path  string   // such as /tokenize; a last element {} stands for any one element
	Get   bool     // it accepts GET
	Post  bool     // it accepts POST
	Query []string // the parameters of its query, besides model
	// Public is the path of a public API that clients mean by Path if their model is an
	// upstream's; "" = none.
	Public string
	// Server says that a request is about the server and not about one call: it shows what
	// all callers do, or changes the answers that they get. Its body names no model, and it
	// takes no slot.
	Server bool
}

// SlotUse is how calls occupy the slots of a server. Paths are those of a request.
type SlotUse struct {
	None      []string          // paths that are answered without a slot
	PerItem   map[string]string // by path: the field of the body with a list, of which each item takes a slot
	OneChoice []string          // paths that ignore the number of choices; at all others, each choice takes a slot
}

// EngineFields are the fields of a request that only one engine knows, by name: the
// references of OpenAI and OpenRouter do not have them, or not with such a value. An
// upstream ignores them, so a call that depends on one never moves there.
type EngineFields map[string]EngineField

// EngineField is a field that only one engine knows.
type EngineField struct {
	Needed func(v gjson.Result) bool // returns whether a call with this value, which is not null, depends on the field; nil = no call does
	Paths  []string                  // the paths that read the field
	Part   string                    // the part of the value that only the engine knows, for messages; "" = all of it
}

// Needs reports whether a call depends on a field: not if its value is null or turns the
// field off.
func (f EngineFields) Needs(name string, value []byte) bool {
	field := f[name]
	if field.Needed == nil {
		return false
	}
	v := gjson.ParseBytes(value)
	return v.Type != gjson.Null && field.Needed(v)
}

// ReadAt reports whether the engine reads a field at a path.
func (f EngineFields) ReadAt(name, path string) bool { return slices.Contains(f[name].Paths, path) }
