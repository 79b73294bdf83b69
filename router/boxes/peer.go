package boxes

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/aggregate"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// Peer sends calls to a server on another box of the fleet, through that box's llmsup. Such a
// call is a hop: the other box gives it to that server only, and records nothing of it.
type Peer struct {
	backend.Load
	box    *PeerBox
	server string // its name
	state  atomic.Pointer[PeerState]

	inflightThen   atomic.Int64 // calls of this box in flight there when the state was announced
	unreachable    atomic.Int64 // Unix nanoseconds until which it gets no calls, since it could not be reached
	unknownFormats sync.Map     // paths whose streams have an unknown format there
}

// PeerBox is another box of the fleet: one process of llmsup.
type PeerBox struct {
	Name      string
	Address   *url.URL
	Hop       string          // what authenticates this box's calls there: this box's name and a code; secret
	Gone      <-chan struct{} // closed when the box has left the fleet or is silent: the calls that wait for it move on
	Transport *http.Transport
}

// PeerState is the state of a server on another box, as it was last announced.
type PeerState struct {
	Status      string           // as `llmsup status` shows it: "ready", "loading", ...
	Drained     bool             // by an operator
	Slots       int              // concurrent calls; 0 = unknown
	Free        int              // slots without a call
	Queued      int              // calls that wait
	Service     time.Duration    // how long a call holds its slots on average; 0 = unknown
	LoadsIn     time.Duration    // as that of backend.LocalState
	PromptRate  float64          // prompt tokens per second; 0 = unknown
	Context     int              // tokens of one call, prompt and answer together; 0 = unknown
	Abilities   []models.Ability // of its model; empty = unknown
	Aggregation bool             // as LocalState.SupportsAggregation
}

// NewPeer returns the backend of a server on another box.
func NewPeer(box *PeerBox, server string, state PeerState) *Peer {
	p := &Peer{box: box, server: server}
	p.state.Store(&state)
	return p
}

// Box returns the box of the server.
func (p *Peer) Box() *PeerBox { return p.box }

// Update replaces the state.
func (p *Peer) Update(state PeerState) {
	p.inflightThen.Store(p.Inflight())
	p.state.Store(&state)
}

// Now returns the state as it was last announced, and how many calls this box has sent there
// since then that are still in flight.
func (p *Peer) Now() (state PeerState, sent int) {
	return *p.state.Load(), int(max(p.Inflight()-p.inflightThen.Load(), 0))
}

// Describe returns the server's state as it was last announced, and what is known of its model.
func (p *Peer) Describe() (status string, d *models.Description) {
	now := p.state.Load()
	return now.Status, &models.Description{CtxSize: now.Context, Abilities: now.Abilities}
}

// Info implements Backend.
func (p *Peer) Info() backend.Info {
	return backend.Info{Name: p.box.Name + "/" + p.server, Local: true}
}

// Redact implements Backend.
func (p *Peer) Redact(text string) string { return strings.ReplaceAll(text, p.box.Hop, "[code]") }

// maxUnasked is up to which size a body is sent before the other box has said that the call can
// begin: the connection on which it refuses a longer one is closed.
const maxUnasked = 64 << 10

// unreachableTime is how long a box that could not be reached gets no calls.
const unreachableTime = 2 * time.Second

// Availability implements Backend.
func (p *Peer) Availability() backend.Availability {
	select {
	case <-p.box.Gone:
		return backend.Availability{Reason: backend.Connect, Detail: "is no longer in the fleet", RetryAfter: wire.RetrySoon}
	default:
	}
	if time.Now().UnixNano() < p.unreachable.Load() {
		return backend.Availability{Reason: backend.Connect, Detail: "could not be reached a moment ago", RetryAfter: wire.RetrySoon}
	}
	return p.state.Load().availability()
}

// availability returns what a server's status means for a call.
func (s *PeerState) availability() backend.Availability {
	a := backend.Availability{Detail: "is " + s.Status, RetryAfter: wire.RetrySoon}
	switch s.Status {
	case "ready":
		return backend.Availability{Alive: true}
	case "degraded":
		a.Reason, a.Alive = backend.Degraded, true
	case "starting", "loading", "restarting":
		a.Reason, a.Returning = backend.Reason(s.Status), !s.Drained
	case "unloaded", "unloading":
		a.Reason, a.Returning, a.OnDemand = backend.Unloaded, !s.Drained, !s.Drained
	case "draining", "drained":
		a.Reason, a.NeedsOperator = backend.Reason(s.Status), true
	case "failed", "stopped":
		a.Reason, a.NeedsOperator = backend.Failed, true
	default: // a state of another version of llmsup, which may end by itself
		a.Reason = backend.Failed
	}
	return a
}

// Admit implements Backend. A call that has an alternative moves there rather than wait for a
// server that accepts no calls; another one waits on the other box.
func (p *Peer) Admit(_ context.Context, a *backend.Attempt) (*backend.Lease, *backend.Failure) {
	now := p.Availability()
	if !now.Usable() && (a.Alternative.Allows(now.Reason) || !now.Returning) {
		f := &backend.Failure{Reason: now.Reason, Detail: now.Detail, RetryAfter: now.RetryAfter, NeedsOperator: now.NeedsOperator}
		if now.Returning {
			f.Next = backend.Retry
		}
		return nil, f
	}
	lease := backend.NewLease(&p.Load, nil)
	lease.Form = p.form(a)
	if a.Alternative.Allows(backend.Lost) { // else the call stays: a box that stops, or has only lost NATS, may still answer it
		lease.Gone = p.box.Gone
	}
	return lease, nil
}

// form returns the form in which a call is sent, as that of a local server: a stream shows that
// the call is being answered, and its beginning can be continued on another box.
func (p *Peer) form(a *backend.Attempt) *aggregate.Form {
	if _, unknown := p.unknownFormats.Load(a.Request.Path); unknown || a.Unmodified || !p.state.Load().Aggregation {
		return nil
	}
	return backend.FormOf(a.Request)
}

// UnknownFormat makes the router send calls of a path unchanged: its streams cannot be
// aggregated.
func (p *Peer) UnknownFormat(path string) { p.unknownFormats.Store(path, true) }

// Send implements Backend.
func (p *Peer) Send(ctx context.Context, a *backend.Attempt) (*http.Response, error) {
	r, header, address := a.Request, http.Header{}, *p.box.Address
	backend.ForwardHeaders(header, r.Header)
	header[wire.HeaderHop] = []string{p.hop(a).String()}
	header[wire.HeaderRequestID] = []string{r.ID}
	if a.MaxWait.Limited && r.Body.Size() > maxUnasked {
		header["Expect"] = []string{"100-continue"} // the other box may refuse the call before it has the body; a proxy takes it at once
	}
	address.Path, address.RawQuery = r.Path, r.Query
	send := func() (*http.Response, error) { return a.SendFree(ctx, p.box.Transport, &address, header) }
	if a.KeepAlive.Notify != nil && p.state.Load().Status != "ready" {
		sendNow := send
		send = func() (*http.Response, error) { return a.SendWithKeepAlive(sendNow) }
	}
	resp, err := send()
	switch {
	case err == nil && resp.StatusCode < http.StatusMultipleChoices && resp.Header.Get(wire.HeaderBackend) == "":
		_ = resp.Body.Close() // not of the box: see CheckRejection
		return &http.Response{StatusCode: http.StatusMisdirectedRequest, Header: http.Header{}, Body: http.NoBody}, nil
	case err == nil && a.Wait.Place == 0:
		a.Wait.Place, _ = strconv.Atoi(resp.Header.Get(wire.HeaderQueue)) // 0 = it did not wait
	case err != nil && ctx.Err() == nil && !a.Connected():
		p.markUnreachable()
	}
	return resp, err
}

// hop returns what the other box has to know of an attempt.
func (p *Peer) hop(a *backend.Attempt) Hop {
	h := Hop{Box: p.box.Hop, Server: p.server, Timeout: time.Until(a.Deadline), MaxWait: a.MaxWait}
	h.Moves = a.Alternative.Exists && a.Alternative.On(cmp.Or(p.Availability().Reason, backend.Saturated))
	if until := a.Alternative.ModelUntil; h.Moves && !until.IsZero() {
		h.ModelWait = min(max(time.Until(until), 0), h.Timeout)
	}
	return h
}

func (p *Peer) markUnreachable() {
	p.unreachable.Store(time.Now().Add(unreachableTime).UnixNano())
}

// CheckRejection finds out why the other box has not given the call to its server: it says so
// in a header. Its own error is not passed on, since it is not about this box. An answer without
// such a header, and without that of an answer of the server, is that of another program at the
// box's address, or of a process of llmsup that does not accept the hop.
func (p *Peer) CheckRejection(f *backend.Failure, _ wire.Dialect) {
	if f.Response == nil {
		return
	}
	reason := backend.Reason(f.Response.Header.Get(wire.HeaderReason))
	aboutRequest := reason == backend.Unsupported || reason == backend.ContextOverflow
	switch {
	case f.Response.Header.Get(wire.HeaderBackend) != "": // an error of the server
		if aboutRequest {
			f.Reason = reason
		}
		return
	case reason == "":
		p.markUnreachable()
		f.Reason, f.Phase, f.Message, f.Response = backend.Connect, backend.Rejected, "", nil
		f.Detail = "is not what answers at its address (fleet.advertise in its llmsup.yaml)"
		return
	}
	f.Reason, f.Phase, f.Detail = reason, backend.Rejected, "did not accept the call ("+wire.Shorten(string(reason))+")"
	if !slices.Contains(models.Reasons, reason) { // one of another version of llmsup
		f.Reason = backend.Failed
	}
	if aboutRequest {
		return
	}
	f.ExpectedWait, f.MayWait = milliseconds(f.Response.Header.Get(wire.HeaderWait))
	switch reason {
	case backend.Degraded, backend.Saturated, backend.Unloaded, backend.Starting, backend.Loading, backend.Restarting:
		f.Next = backend.Retry
	default:
	}
	f.Response = nil
}
