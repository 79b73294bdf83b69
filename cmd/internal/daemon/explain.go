package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/router/plan"
)

// explain returns a sentence about where a call would go and why.
func explain(e plan.Explanation) string {
	if e.Backend == "" {
		return fmt.Sprintf("it would be refused with %d: %s", e.RejectedStatus, e.Rejected)
	}
	s := fmt.Sprintf("it goes to %s as %s", e.Backend, e.BackendModel)
	if slices.Contains(e.Route.Aliases, e.Model) {
		s = "it is an alias of " + e.Route.Name + ", so " + s
	}
	if e.WaitFor != "" {
		s += fmt.Sprintf("; %s, so it waits for up to %s", e.WaitFor, e.WaitLimit)
	}
	if e.Route.WhileLoading != 0 && e.WaitFor == "" && e.Reason == "" {
		s += fmt.Sprintf("; while %s loads, it would wait (while_loading: %s)", e.Route.Primary, e.Route.WhileLoading)
	}
	if e.Reason != "" {
		s += fmt.Sprintf(", because %s", e.Detail)
	}
	switch {
	case len(e.Next) > 0:
		var next []string
		for _, f := range e.Next {
			next = append(next, fmt.Sprintf("to %s as %s", f.To, f.Model))
		}
		s += fmt.Sprintf("; if that fails, or gives no answer within %s, %s", e.Route.Timeout, strings.Join(next, ", then "))
	case e.Reason != "":
	case e.Detail != "":
		s += "; " + e.Detail
	default:
		s += "; the route has no fallback"
	}
	return s
}
