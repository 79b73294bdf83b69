// Package plan decides which backends may answer a call, in which order, and why the
// others are skipped. It answers why a call went to the cloud:
//
//	Routing (the configuration of this moment)
//	  PlanFor(key, model, path) or PlanHop -> Plan{Candidates, each kept or skipped with its reason}
//	    RequireLocal removes the upstreams, if only a server has the path
//	    OrderBoxes orders the boxes of the fleet
//	    EditRequest edits the call for each candidate, as the route says
//	    RequireLocalField, CheckBudget skip more of them
//	WaitWhereRefused, ReturnedBoxes (candidates that come up during the call)
//	MayMoveOn(what has failed, next candidate) -> an obstacle, or none
//
// The router makes a plan for each call, and for `llmsup route`. The package
// sends nothing and waits for no I/O: a plan depends on the routing, the availability of the
// backends and the budgets at one moment, and MayMoveOn is a pure function.
package plan
