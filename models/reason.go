package models

// Reason is why a route's primary did not answer a call. The values are part of the public
// contract: the header, the log, the metrics, the ledger and a route's fallback_on.
type Reason string

// The reasons of the contract.
const (
	ReasonUnloaded        Reason = "unloaded" // the model is not on the GPU; a call loads it
	ReasonStarting        Reason = "starting"
	ReasonLoading         Reason = "loading"
	ReasonRestarting      Reason = "restarting"
	ReasonDraining        Reason = "draining"
	ReasonDrained         Reason = "drained"
	ReasonDegraded        Reason = "degraded"
	ReasonFailed          Reason = "failed"
	ReasonSaturated       Reason = "saturated"
	ReasonConnect         Reason = "connect"
	ReasonTimeout         Reason = "timeout"
	ReasonStalled         Reason = "stalled"
	ReasonLost            Reason = "lost"
	ReasonStatus          Reason = "status"
	ReasonContextOverflow Reason = "context_overflow"
	ReasonUnsupported     Reason = "unsupported"
	ReasonBadResponse     Reason = "bad_response"
)

// EndsWithLoad reports whether the reason ends when the server has loaded its model.
func (r Reason) EndsWithLoad() bool {
	switch r {
	case ReasonUnloaded, ReasonStarting, ReasonLoading, ReasonRestarting:
		return true
	default:
		return false
	}
}

// Reasons are all reasons, in the order of the documentation.
var Reasons = []Reason{
	ReasonUnloaded, ReasonStarting, ReasonLoading, ReasonRestarting, ReasonDraining, ReasonDrained,
	ReasonDegraded, ReasonFailed, ReasonSaturated, ReasonConnect, ReasonTimeout,
	ReasonStalled, ReasonLost, ReasonStatus, ReasonContextOverflow, ReasonUnsupported, ReasonBadResponse,
}
