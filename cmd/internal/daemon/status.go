package daemon

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/maintenance"
	"github.com/llmsup/llmsup/models"
)

// Status implements control.Daemon.
func (d *Daemon) Status() control.Status {
	s := control.Status{
		Version: d.opts.Version, Listen: d.listener.Addr().String(), Inflight: d.router.Inflight(),
		Servers: []control.Server{}, GPUs: d.gpus.Status(), Upstreams: []control.Upstream{},
		GPUProblem: d.monitor.Sample().Problem,
		Ledger:     d.accounting.LedgerStatus(), Budgets: d.accounting.BudgetStatus(d.boxes.View()), Page: d.pageAddress(), TLS: d.endpoint.status(), Fleet: d.boxes.Status(),
	}
	record := d.maintenance.Record()
	if together, drained := record.Together(d.configured()); drained {
		s.Drain = drainStatus(together)
	}
	for _, status := range d.report.Status() {
		if drain, drained := record.Of(status.Name); drained {
			status.Drain = drainStatus(drain)
		}
		s.Servers = append(s.Servers, status)
	}
	for _, u := range d.router.Upstreams() {
		s.Upstreams = append(s.Upstreams, control.Upstream{Name: u.Name, Healthy: u.Reason == "", Reason: u.Reason, MissingKey: u.MissingKey})
	}
	return s
}

func drainStatus(drain maintenance.Drain) *control.Drain {
	s := &control.Drain{Since: drain.Since, KeepServer: drain.KeepServer}
	if !drain.Until.IsZero() {
		s.Until = &drain.Until
	}
	return s
}

// Usage implements control.Daemon.
func (d *Daemon) Usage(ctx context.Context, from, to time.Time, by string) (control.Usage, error) {
	return d.accounting.Usage(ctx, "", from, to, by)
}

// UsageOfKey is Usage of the calls with one client key.
func (d *Daemon) UsageOfKey(ctx context.Context, key string, from, to time.Time, by string) (control.Usage, error) {
	return d.accounting.Usage(ctx, key, from, to, by)
}

// Route implements control.Daemon.
func (d *Daemon) Route(model string) control.RouteAnswer {
	e := d.router.Explain(model)
	a := control.RouteAnswer{
		Model: model, Route: e.Route.Name, Backend: e.Backend, BackendModel: e.BackendModel,
		Reason: string(e.Reason), Error: e.Rejected,
	}
	if e.Route.Name != "" {
		a.Timeout = e.Route.Timeout.String()
	}
	if len(e.Next) > 0 {
		a.Fallback, a.FallbackModel = e.Next[0].To, e.Next[0].Model
	}
	if e.Backend != "" {
		for _, f := range append([]models.Fallback{{To: e.Backend, Model: e.BackendModel, Edits: e.Edits}}, e.Next...) {
			a.Candidates = append(a.Candidates, control.RouteCandidate{Backend: f.To, Model: f.Model, Edits: f.Edits})
		}
	}
	a.Explanation = e.Sentence()
	return a
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
