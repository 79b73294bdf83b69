package router

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// boundBy returns the first field that the call depends on and only llama-server
// knows; "" = there is none.
func boundBy(c *request.Request) string {
	for _, name := range c.Body.NeededFields {
		if c.Body.Fields.ReadAt(name, c.Path) {
			return name
		}
	}
	return ""
}

// keepBound skips the upstreams in the plan of a call that would move from a local server
// to them, and depends on a field that they ignore. A route whose primary is an upstream
// passes such fields through.
func (p *plan) keepBound(r *request.Request) {
	field := ""
	if p.localPrimary && p.refuse.Status == 0 {
		field = boundBy(r)
	}
	if field == "" {
		return
	}
	p.skip(func(c *candidate) string {
		if c.Local {
			return ""
		}
		p.bound = true
		return "fallback " + c.Name + " does not support " + wire.Quote(field+r.Body.Fields[field].Part) + " (llama-server only)"
	})
	left := kept(p.candidates)
	switch {
	case !p.bound, p.waits():
	case len(left) == 0:
		p.refuse = wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.reason),
			Message: p.detail + "; " + p.noFallback(), RetryAfter: max(p.retryAfter, 1),
		}
		p.reason, p.detail = backend.Unsupported, p.refuse.Message
	case left[0].primary:
		p.reason, p.detail = "", "" // it is not passed over
	}
}

// rejectedLocalField says that a local server rejected a call for a field that only
// llama-server knows. Its message names the field, but for errors in a grammar or a
// schema, and in the value of reasoning_format.
func rejectedLocalField(f *backend.Failure, c *request.Request) bool {
	if f.Reason != backend.Status || f.Response == nil || f.Response.Status != http.StatusBadRequest {
		return false
	}
	object := gjson.ParseBytes(f.Response.Body)
	if object.Get("error.type").Str != wire.TypeInvalid {
		return false
	}
	message := object.Get("error.message").Str
	if rest, named := strings.CutPrefix(message, "Field '"); named {
		name, _, _ := strings.Cut(rest, "'")
		_, known := c.Body.Fields[name]
		return known
	}
	if strings.Contains(message, "continue_final_message") {
		return true
	}
	if format := gjson.GetBytes(c.Body.Raw, "reasoning_format"); format.Exists() && strings.Contains(message, "type must be string") {
		return format.Type != gjson.String
	}
	return boundBy(c) != "" && aboutGrammar.MatchString(message)
}

// aboutGrammar finds errors in a grammar, or in a schema, which becomes one.
var aboutGrammar = regexp.MustCompile(`(?i)grammar|schema|sampler`)
