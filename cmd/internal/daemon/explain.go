package daemon

import (
	"fmt"

	"github.com/llmsup/llmsup/router"
)

// explain says in one sentence where a call would go and why.
func explain(e router.Explanation) string {
	if e.Backend == "" {
		return fmt.Sprintf("it would be refused with %d: %s", e.RefusedStatus, e.Refused)
	}
	s := fmt.Sprintf("it goes to %s as %s", e.Backend, e.BackendModel)
	if e.WaitFor != "" {
		s += fmt.Sprintf("; %s, so it waits for up to %s", e.WaitFor, e.Route.Timeout)
	}
	if e.Reason != "" {
		s += fmt.Sprintf(", because %s", e.Detail)
	}
	switch {
	case e.Fallback != "":
		s += fmt.Sprintf("; if that fails, or gives no answer within %s, to %s as %s", e.Route.Timeout, e.Fallback, e.FallbackModel)
	case e.Reason != "":
	case e.Detail != "":
		s += "; " + e.Detail
	default:
		s += "; the route has no fallback"
	}
	return s
}
