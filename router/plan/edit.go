package plan

import (
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/request"
)

// EditRequest makes each candidate's edits in the call. All later decisions about a candidate,
// such as what the call may cost there, are about the call as it gets it. Providers that count
// tokens reject the parameters of an answer, so these calls are not edited.
func (p *Plan) EditRequest(r *request.Request) {
	if accounting.CountsTokens(r.Path) {
		return
	}
	var edited map[*models.Edits]*request.Request // candidates with the same edits share a body
	edit := func(c *Candidate) {
		if c.Edits == nil {
			return
		}
		if edited[c.Edits] == nil {
			own := *r
			own.Body = r.Body.Edit(c.Edits)
			if edited == nil {
				edited = map[*models.Edits]*request.Request{}
			}
			edited[c.Edits] = &own
		}
		c.edited = edited[c.Edits]
	}
	for i := range p.Candidates {
		edit(&p.Candidates[i])
	}
	for _, c := range []*Candidate{p.waitCandidate, p.ToLoad} {
		if c != nil {
			edit(c)
		}
	}
}
