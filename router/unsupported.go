package router

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/tidwall/gjson"

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

// keepBound takes the upstreams out of the plan of a call that would move from a
// local server to them, and depends on a field that they ignore. A route whose
// primary is an upstream passes such fields through.
func (p *plan) keepBound(c *request.Request) {
	field := ""
	if p.meant && p.refuse.Status == 0 {
		field = boundBy(c)
	}
	if field == "" {
		return
	}
	var kept []step
	for _, s := range p.steps {
		if _, local := s.backend.(*localBackend); local {
			kept = append(kept, s)
			continue
		}
		p.bound = true
		p.noSpare = "fallback " + s.backend.name() + " does not support " + wire.Quote(field+c.Body.Fields[field].Part) + " (llama-server only)"
	}
	if !p.bound {
		return
	}
	p.steps = kept
	switch {
	case p.waits():
	case len(kept) == 0:
		p.refuse = wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.reason),
			Message: p.detail + "; " + p.noSpare, RetryAfter: max(p.retry, 1),
		}
		p.reason, p.detail = Unsupported, p.refuse.Message
	case kept[0].first:
		p.reason, p.detail = "", "" // it is not passed over
	}
}

// ownField says that a local server rejected a call for a field that only
// llama-server knows. Its message names the field, but for errors in a grammar or a
// schema, and in the value of reasoning_format.
func (f *failure) ownField(c *request.Request) bool {
	if f.reason != Status || f.resp == nil || f.resp.StatusCode != http.StatusBadRequest {
		return false
	}
	object := gjson.ParseBytes(f.body)
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
