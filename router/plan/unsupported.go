package plan

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// BoundBy returns the first field that the call depends on and only llama-server
// knows; "" = there is none.
func BoundBy(c *request.Request) string {
	for _, name := range c.Body.NeededFields {
		if c.Body.Fields.ReadAt(name, c.Path) {
			return name
		}
	}
	return ""
}

// KeepBound skips the upstreams in the plan of a call that would move from a local server
// to them, and depends on a field that they ignore. A route whose primary is an upstream
// passes such fields through.
func (p *Plan) KeepBound(r *request.Request) {
	field := ""
	if p.LocalPrimary && p.Refuse.Status == 0 {
		field = BoundBy(r)
	}
	if field == "" {
		return
	}
	p.skip(func(c *Candidate) string {
		if c.Local {
			return ""
		}
		p.Bound = true
		return "fallback " + c.Name + " does not support " + wire.Quote(field+r.Body.Fields[field].Part) + " (llama-server only)"
	})
	first := firstKept(p.Candidates)
	switch {
	case !p.Bound, p.waits():
	case first == nil:
		p.Refuse = wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason),
			Message: p.Detail + "; " + p.NoFallback(), RetryAfter: max(p.retryAfter, 1),
		}
		p.Reason, p.Detail = backend.Unsupported, p.Refuse.Message
	case first.Primary:
		p.Reason, p.Detail = "", "" // it is not passed over
	}
}

// RejectedLocalField says that a local server rejected a call for a field that only
// llama-server knows. Its message names the field, but for errors in a grammar or a
// schema, and in the value of reasoning_format.
func RejectedLocalField(f *backend.Failure, c *request.Request) bool {
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
	return BoundBy(c) != "" && aboutGrammar.MatchString(message)
}

// aboutGrammar finds errors in a grammar, or in a schema, which becomes one.
var aboutGrammar = regexp.MustCompile(`(?i)grammar|schema|sampler`)

// KeepLocal removes from a plan what is no local server. What is skipped stays, with its
// reason.
func (p *Plan) KeepLocal(path string) {
	p.Candidates = slices.DeleteFunc(p.Candidates, func(c Candidate) bool { return !c.Local && c.skipped == "" })
	if p.waits() || firstKept(p.Candidates) != nil || p.Refuse.Status != 0 {
		return
	}
	p.Refuse = wire.Error{
		Status: http.StatusNotImplemented, Type: wire.TypeInvalid, Code: string(backend.Unsupported),
		Message: fmt.Sprintf("only a local llama-server has %s, and %s goes to %s", path, p.Route.Name, p.Route.Primary),
	}
	if p.Reason != "" {
		p.Refuse = wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason), RetryAfter: max(p.retryAfter, 1),
			Message: fmt.Sprintf("%s, and only a local llama-server has %s", p.Detail, path),
		}
	}
}
