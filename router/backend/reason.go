package backend

import "github.com/llmsup/llmsup/models"

// Reason is why a call was not answered by its route's primary.
type Reason = models.Reason

// The reasons, under the router's names.
const (
	Unloaded        = models.ReasonUnloaded
	Starting        = models.ReasonStarting
	Loading         = models.ReasonLoading
	Restarting      = models.ReasonRestarting
	Draining        = models.ReasonDraining
	Drained         = models.ReasonDrained
	Degraded        = models.ReasonDegraded
	Failed          = models.ReasonFailed
	Saturated       = models.ReasonSaturated
	Connect         = models.ReasonConnect
	Timeout         = models.ReasonTimeout
	Stalled         = models.ReasonStalled
	Lost            = models.ReasonLost
	Status          = models.ReasonStatus
	ContextOverflow = models.ReasonContextOverflow
	Unsupported     = models.ReasonUnsupported
	BadResponse     = models.ReasonBadResponse
)
