package ondemand

import (
	"context"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/scheduler"
	"github.com/llmsup/llmsup/gpu"
)

// Options are the dependencies of an Owner.
type Options struct {
	// Servers returns the present servers, and a channel that is closed when there are others.
	Servers  func() (servers []Server, changed <-chan struct{})
	GPUs     GPUs
	Loaded   func(server string, took time.Duration) // called after each load of a server's model
	StateDir string                                  // where the needs are stored
	Log      zerolog.Logger
}

// GPUs is what the Owner needs of a *gpu.Monitor.
type GPUs interface {
	Sample() *gpu.Sample // the latest reading
	RequestSample()      // before the next regular one
}

// Owner owns the decision which models are loaded. Run makes it; the other methods may be
// called from any goroutine.
type Owner struct {
	opts    Options
	log     zerolog.Logger
	wake    chan struct{} // receives when there is something to decide
	figures atomic.Pointer[map[string]Figures]

	// Run alone uses these:
	models map[string]*model
	store  store
}

// New returns an Owner with the needs that were measured before llmsup last stopped.
func New(opts Options) *Owner {
	o := &Owner{opts: opts, log: opts.Log, wake: make(chan struct{}, 1), models: map[string]*model{}}
	o.figures.Store(&map[string]Figures{})
	var err error
	if o.store, err = openStore(opts.StateDir); err != nil {
		o.log.Warn().Err(err).Msg("the models' measured VRAM needs cannot be read; they are measured again")
	}
	return o
}

// NewDemand returns a Demand that wakes the Owner.
func (o *Owner) NewDemand() *Demand { return &Demand{wake: o.notify} }

func (o *Owner) notify() {
	select {
	case o.wake <- struct{}{}:
	default: // it is about to decide
	}
}

// Figures returns what is known about a server's model.
func (o *Owner) Figures(name string) Figures { return (*o.figures.Load())[name] }

const (
	// interval is the longest time between two decisions: calls also end without an event.
	interval = time.Second
	// reclaimInterval is the time between two checks of whether VRAM is free again.
	reclaimInterval = 100 * time.Millisecond
	// stepPause is the shortest time between two decisions: each call for a model that is not
	// loaded asks for one.
	stepPause = 20 * time.Millisecond
)

// Run loads and unloads models until ctx ends.
func (o *Owner) Run(ctx context.Context) {
	defer o.save()
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		servers, changed := o.opts.Servers()
		sample := o.opts.GPUs.Sample()
		cases := []reflect.SelectCase{receive(ctx.Done()), receive(changed), receive(o.wake), receive(sample.Changed), {Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timer.C)}}
		for _, s := range servers { // before the step: a change during it starts another one
			cases = append(cases, receive(s.Process.Snapshot().Changed))
		}
		timer.Reset(o.step(servers))
		decided := time.Now()
		if i, _, _ := reflect.Select(cases); i == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(stepPause - time.Since(decided)):
		}
	}
}

func receive(c <-chan struct{}) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// step observes all servers, decides, and carries the plan out. It returns the time until the
// next step if nothing happens before.
func (o *Owner) step(servers []Server) (next time.Duration) {
	now, sample := time.Now(), o.opts.GPUs.Sample()
	current := map[string]*model{}
	for _, s := range servers {
		m := o.models[s.Name]
		if m == nil || m.Demand != s.Demand { // it is another server of the same name
			m = &model{lastUsed: now}
		} else if m.Pinned != s.Pinned { // by a reload
			s.Demand.forgetPin()
		}
		m.Server = s
		current[s.Name] = m
		o.observe(m, sample, now)
	}
	o.models = current
	plan := scheduler.Plan{}
	onDemand := slices.ContainsFunc(servers, func(s Server) bool { return s.OnDemand })
	if onDemand {
		state := o.state(servers, sample, now)
		plan = scheduler.Decide(state)
		o.findLoadsIn(state)
		o.apply(plan, sample, now)
	}
	o.publish(plan)
	return o.untilNext(plan, now, onDemand)
}

func (o *Owner) untilNext(plan scheduler.Plan, now time.Time, onDemand bool) time.Duration {
	next := interval
	if !onDemand {
		next = time.Minute
	}
	for _, m := range o.models {
		if m.reclaiming {
			next = reclaimInterval
		}
	}
	if !plan.Again.IsZero() {
		next = min(next, max(plan.Again.Sub(now), time.Millisecond))
	}
	return next
}
