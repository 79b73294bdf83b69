package outcome

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Call is a call that no backend has answered.
type Call struct {
	Causes  []Cause // in order; the last one was asked
	Skipped string  // why the route's other backends were not asked; "" = it has none
	// OverBudget is the error if a budget kept the call from a paid backend; Status 0 = none
	// did.
	OverBudget wire.Error
	Reserved   bool // only reservations for calls in flight use up that budget
}

// Answer is what the client receives: either a backend's own error or llmsup's.
type Answer struct {
	Forward *backend.Failure // whose own error it is; nil = Error is the answer
	Note    string           // added to the message of Forward; "" = Forward is passed on byte for byte
	Retry   bool             // whether a retry helps, if Forward does not say so itself
	Error   wire.Error
}

// Of returns the answer to a call. The first row that fits decides:
//
//	earlier causes     | last cause  | the client receives                      | retry
//	-------------------+-------------+------------------------------------------+---------------------
//	any, not asked     | any (1)     | its own error, byte for byte             | if any is temporary (2)
//	any                | rejected    | the first rejection, with the causes     | no
//	any                | temporary   | its status, and the causes               | yes
//	one is temporary   | operator    | 503 if the wait is known, or 502; causes | yes
//	one is rejected    | operator    | that rejection, with the causes          | no
//	operator, or none  | operator    | 502, or 503 if the last was not asked    | no
//
// A budget that is used up counts as operator, with status 429. (1) But not a fallback's
// error that only the operator can fix: the client's request is valid. (2) And the last one
// is not a rejection.
func Of(c Call) Answer {
	last := c.Causes[len(c.Causes)-1]
	rejected, temporary := c.first(Rejected), c.first(Temporary) != nil
	overBudget := c.OverBudget.Status != 0
	switch {
	case overBudget && (rejected == nil || c.Reserved):
		return Answer{Error: c.overBudgetError(temporary)}
	case !overBudget && c.isOnlyAnswer(last):
		return Answer{Forward: last.Failure, Retry: temporary && last.Kind() != Rejected}
	case rejected != nil && (overBudget || last.Kind() == Rejected || !temporary):
		return c.rejection(rejected)
	}
	return Answer{Error: c.ownError(last, temporary)}
}

// first returns the first backend that was asked and failed with a kind; of the temporary
// ones, those that were bypassed count as well. nil = there is none.
func (c Call) first(kind Kind) *Cause {
	for i := range c.Causes {
		if cause := &c.Causes[i]; cause.Kind() == kind && (kind == Temporary || !cause.Bypassed) {
			return cause
		}
	}
	return nil
}

// asked returns how many backends were asked.
func (c Call) asked() (n int) {
	for _, cause := range c.Causes {
		if !cause.Bypassed {
			n++
		}
	}
	return n
}

// isOnlyAnswer reports whether a cause is the own error of the only backend that was asked,
// and about the client's call.
func (c Call) isOnlyAnswer(last Cause) bool {
	return c.asked() == 1 && last.Response != nil && wire.IsErrorStatus(last.Response.Status) && (last.Primary || last.Kind() != Operator)
}

// rejection returns a backend's own error with the other causes in its message.
func (c Call) rejection(rejected *Cause) Answer {
	if messageOf(rejected.Response.Body).Index == 0 {
		e := c.ownError(*rejected, false)
		e.Type = wire.TypeInvalid
		return Answer{Error: e}
	}
	note, order := "", "; before that, "
	for i := range c.Causes {
		if cause := &c.Causes[i]; cause == rejected {
			order = "; then "
		} else {
			note += order + cause.ClientMessage()
		}
	}
	if c.OverBudget.Status != 0 {
		note += "; " + c.OverBudget.Message
	}
	return Answer{Forward: rejected.Failure, Note: note}
}

// overBudgetError returns the budget's error, with the cause why no backend that costs
// nothing answered.
func (c Call) overBudgetError(temporary bool) wire.Error {
	e := c.OverBudget
	if temporary {
		e.RetryAfter = min(e.RetryAfter, cmp.Or(c.wait(), wire.RetrySoon))
	}
	for _, cause := range c.Causes {
		if !cause.Bypassed {
			e.Message = cause.ClientMessage() + "; " + e.Message
			break
		}
	}
	return e
}

// ownError returns llmsup's error: it names all causes.
func (c Call) ownError(last Cause, temporary bool) wire.Error {
	e := wire.Error{Status: last.HTTPStatus(), Type: wire.TypeServer, Code: string(last.Reason), RetryAfter: last.RetryAfter, Definite: !temporary}
	if temporary {
		e.RetryAfter = c.wait()
	}
	separator := "; "
	if misconfigured := last.Kind() == Operator && last.Response != nil; misconfigured && len(c.Causes) > 1 || c.asked() > 1 {
		e.Code, separator = wire.CodeBothFailed, "; then "
		if misconfigured {
			e.Status = http.StatusBadGateway
		}
		if misconfigured && temporary && e.RetryAfter > 0 {
			e.Status = http.StatusServiceUnavailable
		}
	}
	if e.Status == http.StatusTooManyRequests {
		e.Type = wire.TypeRateLimit
	}
	messages := make([]string, len(c.Causes))
	for i, cause := range c.Causes {
		messages[i] = cause.ClientMessage()
	}
	e.Message = strings.Join(messages, separator)
	if c.Skipped != "" {
		e.Message += "; " + c.Skipped
	}
	return e
}

// wait returns the number of seconds after which the first backend may answer; 0 = unknown.
func (c Call) wait() (seconds int) {
	for _, cause := range c.Causes {
		if wait := cause.wait(); cause.Kind() == Temporary && wait > 0 && (seconds == 0 || wait < seconds) {
			seconds = wait
		}
	}
	return seconds
}
