package plan

import (
	"net/http"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// RequirePath skips the local servers in the plan of a call to a public path that their
// engine does not have: they would be asked in vain.
func (p *Plan) RequirePath(engine models.Capabilities, path string) {
	if engine.HasPublic(path) {
		return
	}
	lacks := ""
	for i := range p.Candidates {
		if c := &p.Candidates[i]; c.Local {
			lacks = c.Name + ": " + engine.Program + " has no " + path
			c.skipReason, c.unsupported = lacks, true
		}
	}
	if lacks == "" {
		return
	}
	p.waitCandidate, p.WaitFor, p.Wanted = nil, "", nil // no later state of a server helps
	if p.LocalPrimary {
		p.Reason, p.Detail, p.needsOperator = backend.Unsupported, lacks, true
		if !FallsBackOn(p.Route, backend.Unsupported) {
			p.skip(func(c *Candidate) string { return NotInFallbackOn(backend.Unsupported) })
		}
	}
	if firstKept(p.Candidates) == nil {
		p.Rejection = wire.Error{
			Status: http.StatusNotImplemented, Type: wire.TypeInvalid, Code: string(backend.Unsupported),
			Message: p.AddFallbackReason(lacks),
		}
	}
}
