// Package lease shares the budgets of a fleet among its boxes. The bucket has a record for each
// limit and window: how much each box may spend. The sum is never more than the limit, and a
// box spends no more than its part, so the fleet never exceeds a limit, whatever fails.
//
// A Leaser keeps the leases of router/budget supplied, in the background: no call waits for it,
// or for NATS. cmd/internal/accounting makes it, and the fleet's Member runs it as a Service.
package lease
