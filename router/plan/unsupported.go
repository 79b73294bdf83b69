package plan

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/endpoint"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// RequiredLocalField returns the first field that the call depends on and that only
// llama-server knows; "" = there is none.
func RequiredLocalField(c *request.Request) string {
	for _, name := range c.Body.NeededFields {
		if c.Body.Fields.ReadAt(name, c.Path) {
			return name
		}
	}
	return ""
}

// RequireLocalField skips the upstreams in the plan of a call whose primary is a local server
// and that, with the upstream's edits, depends on a field that upstreams ignore. A route whose
// primary is an upstream passes such fields through.
func (p *Plan) RequireLocalField(r *request.Request) {
	if !p.LocalPrimary || p.Rejection.Status != 0 {
		return
	}
	p.skip(func(c *Candidate) string {
		if c.Local {
			return ""
		}
		field := RequiredLocalField(c.RequestOf(r))
		if field == "" {
			return ""
		}
		p.NeedsLocalField = true
		return "fallback " + c.Name + " does not support " + wire.Quote(field+r.Body.Fields[field].Part) + " (llama-server only)"
	})
	first := firstKept(p.Candidates)
	switch {
	case !p.NeedsLocalField, p.waitForServer():
	case first == nil:
		p.Rejection = p.blameRequest(wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason),
			Message: p.Detail + "; " + p.NoFallback(), RetryAfter: max(p.retryAfter, 1), Definite: p.needsOperator,
		})
		p.Reason, p.Detail = backend.Unsupported, p.Rejection.Message
	case first.Primary && !first.OtherBox:
		p.Reason, p.Detail = "", "" // it is not bypassed
	}
}

// RejectedLocalField reports whether a local server rejected a call for a field that only
// llama-server knows. Its message names the field, except for errors in a grammar, in a
// schema or in the value of reasoning_format.
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
	return RequiredLocalField(c) != "" && grammarError.MatchString(message)
}

// grammarError matches errors in a grammar, or in a schema, which becomes a grammar.
var grammarError = regexp.MustCompile(`(?i)grammar|schema|sampler`)

// RequireLocal removes the upstreams from a plan: the path exists only at a local server.
// Skipped candidates stay, with their reasons.
func (p *Plan) RequireLocal(path string) {
	p.Candidates = slices.DeleteFunc(p.Candidates, func(c Candidate) bool { return !c.Local && c.skipReason == "" })
	if p.waitForServer() || firstKept(p.Candidates) != nil || p.Rejection.Status != 0 {
		return
	}
	p.Rejection = wire.Error{
		Status: http.StatusNotImplemented, Type: wire.TypeInvalid, Code: string(backend.Unsupported),
		Message: fmt.Sprintf("%s needs a local llama-server, and %s goes to %s", path, p.Route.Name, p.Route.Primary),
	}
	if p.Reason != "" {
		p.Rejection = p.blameRequest(wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: string(p.Reason),
			Message:    fmt.Sprintf("%s, and %s needs a local llama-server", p.Detail, path),
			RetryAfter: max(p.retryAfter, 1), Definite: p.needsOperator,
		})
	}
}

// availability returns whether a call at a path, that of its endpoint, can be given to a
// backend now. A local server gets no call at a path that its engine lacks, and one whose model
// generates no text gets no call for text, whatever its state.
func (s *Routing) availability(b backend.Backend, path string) backend.Availability {
	now := b.Availability()
	server, local := b.(*backend.Server)
	if !local || path == "" {
		return now
	}
	engine, m := server.Engine(), now.Model
	if !serves(engine, path) {
		return backend.Availability{
			Reason: backend.Unsupported, NeedsOperator: true, Model: m,
			Detail: fmt.Sprintf("runs %s, which has no %s", engine.Program, path),
		}
	}
	if m == nil || len(m.Abilities) == 0 || m.Can(models.Completion) || !slices.Contains(engine.Generating, path) {
		return now
	}
	does := "computes embeddings (/v1/embeddings)"
	if m.Can(models.Rerank) {
		does = "ranks documents (/v1/rerank)"
	}
	return backend.Availability{
		Reason: backend.Unsupported, NeedsOperator: true, Model: m,
		Detail: fmt.Sprintf("does not answer %s: its model generates no text, it only %s", path, does),
	}
}

// serves reports whether an engine has an endpoint, or may have it.
func serves(engine *models.Capabilities, path string) bool {
	if isPublic(path) {
		return engine.HasPublic(path)
	}
	return engine.HasOwn(path)
}

// isPublic reports whether an endpoint is that of a public API.
func isPublic(path string) bool {
	_, public := endpoint.Public[path]
	return public
}

// PrimaryHas reports whether the route's primary is a local server whose engine has an endpoint
// of its own API.
func (p *Plan) PrimaryHas(path string) bool {
	return p.LocalPrimary && (p.Server == nil || p.Server.Engine().HasOwn(path))
}
