package attempt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/router/accounting"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/pick"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/responses"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// ErrStalled ends a stream in which nothing came for the idle time.
var ErrStalled = errors.New("the stream was idle for too long")

var (
	errTimeout = errors.New("no answer in time")
	errExited  = errors.New("the server exited")
)

// Params are what an attempt depends on.
type Params struct {
	Request     *request.Request
	Backend     backend.Backend
	Model       string     // the model's name there
	Estimate    usd.Amount // what the call may cost there
	Accounting  *accounting.Accounting
	Timeout     time.Duration // to the first answer
	MaxWait     pick.MaxWait  // as that of a backend.Attempt
	Idle        time.Duration // idle timeout of a stream that has begun; 0 = none
	Alternative backend.Alternative
	KeepAlive   backend.KeepAlive // while the call waits for its model
	Progress    backend.Progress  // nil = it is not reported
	Unmodified  bool              // the body is sent as the client wrote it
	Log         zerolog.Logger

	waited backend.Wait // before an earlier request of this attempt
}

// Failure is why an attempt has no answer, and what it cost.
type Failure struct {
	backend.Failure
	Charge     *accounting.Charge // what may have been billed; nil = nothing
	OverBudget *budget.Exceeded   // the limit because of which no request was sent; nil = no limit
	Wait       backend.Wait       // in the backend's queue

	modified bool // the body was not sent as the client wrote it
}

// Start gives a call to a backend and waits for its first answer: until the timeout,
// until the backend's process has ended, or until the client closes the connection. A
// call that the backend cannot answer in the form in which it was sent is sent once
// more, as the client wrote it.
func Start(client context.Context, p Params) (*Answer, *Failure) {
	p.completeInput()
	a, failed := p.start(client)
	if failed == nil || p.Unmodified || client.Err() != nil {
		return a, failed
	}
	p.waited = failed.Wait
	switch b := p.Backend.(type) {
	case interface{ UnknownFormat(path string) }: // a server, on this box or on another one
		if failed.Next != backend.RetryUnmodified {
			return nil, failed
		}
		if failed.UnknownFormat {
			b.UnknownFormat(p.Request.Path)
			p.Log.Warn().Str("server", failed.Backend).Str("path", p.Request.Path).
				Msg("unexpected stream format; non-streaming calls are forwarded unchanged: " + failed.Detail)
		}
		p.Unmodified = true
		// The retry gets at least twice the time used so far: the server has generated the
		// answer once in that time.
		p.Timeout = max(p.Timeout, 2*time.Since(p.Request.Began))
		return p.start(client)
	case *backend.Upstream:
		if !failed.modified || !failed.RejectedField("stream_options") {
			return nil, failed
		}
		p.Unmodified = true
		a, failed := p.start(client)
		if failed == nil || !failed.InvalidRequest() { // otherwise the first error may have quoted the client's own text
			b.RejectsUsage()
		}
		return a, failed
	}
	return nil, failed
}

// completeInput adds what the backend requires in the input of a response.
func (p *Params) completeInput() {
	if !p.Backend.Info().PartialResponses || !strings.HasPrefix(p.Request.Path, "/v1/responses") { // input_tokens too
		return
	}
	completed, ok := responses.CompleteInput(p.Request.Body.Raw)
	if !ok {
		return
	}
	next := *p.Request
	var err error
	if next.Body, err = request.ParseBodyFor(p.Request.Body.Fields, completed); err == nil { // else the body stays as it is
		p.Request = &next
	}
}

// start is Start without the second request.
func (p Params) start(client context.Context) (*Answer, *Failure) {
	reserved, over := p.Accounting.Reserve(p.Request, p.accountingAttempt())
	if over != nil { // the budget was used up after the call was planned
		return nil, &Failure{OverBudget: over, Failure: backend.Failure{
			Backend: p.Backend.Info().Name, Reason: backend.Failed, Detail: "was skipped: " + over.String(),
		}}
	}
	ctx, cancel := context.WithCancelCause(client)
	at := &backend.Attempt{
		Request: p.Request, Model: p.Model, Alternative: p.Alternative, KeepAlive: p.KeepAlive, Progress: p.Progress,
		Timeout: p.Timeout, MaxWait: p.MaxWait, Deadline: time.Now().Add(p.Timeout), Unmodified: p.Unmodified, Wait: p.waited,
	}
	timer := time.AfterFunc(p.Timeout, func() { cancel(errTimeout) })
	lease, failed := p.Backend.Admit(ctx, at)
	if failed != nil {
		timer.Stop()
		cancel(context.Canceled)
		p.nameAndRedact(failed)
		return nil, settled(failed, at, reserved)
	}
	at.Lease = lease
	if !p.Alternative.Allows(backend.Lost) {
		lease.Bind()
	}
	if p.Progress != nil {
		p.Progress.Send()
	}
	a, failed := p.answer(ctx, cancel, timer, at, reserved)
	if failed == nil {
		lease.Report(nil, false)
		a.Wait = at.Wait
		return a, nil
	}
	ending := backend.Aborted
	if failed.Response != nil { // the backend has finished with an error
		ending = backend.Errored
	}
	p.explain(ctx, failed)
	lease.Report(failed, client.Err() != nil)
	cancel(context.Canceled)
	lease.Release(ending)
	return nil, settled(failed, at, reserved)
}

// explain completes the failure of an attempt whose call was sent.
func (p Params) explain(ctx context.Context, failed *backend.Failure) {
	p.explainInterruption(ctx, failed)
	if server, ok := p.Backend.(interface {
		CheckRejection(f *backend.Failure, d wire.Dialect)
	}); ok {
		server.CheckRejection(failed, p.Request.Dialect)
	}
	p.nameAndRedact(failed)
}

// answer sends an admitted call and waits for its answer, until the timer fires or the
// backend's process exits.
func (p Params) answer(ctx context.Context, cancel context.CancelCauseFunc, timer *time.Timer, at *backend.Attempt, reserved *accounting.Reservation) (*Answer, *backend.Failure) {
	stop := cancelWhenGone(ctx, at.Lease.Gone, cancel)
	defer stop()
	a, failed := p.send(ctx, at, reserved)
	inTime := timer.Stop()
	if failed != nil {
		return nil, failed
	}
	a.idle, a.cancel, a.redact, a.First = p.Idle, cancel, p.Backend.Redact, time.Now()
	if inTime {
		if failed = a.collectStream(p.Request); failed == nil {
			a.completeWhole()
			return a, nil
		}
		failed.Usage = a.Usage
	} else {
		failed = &backend.Failure{Phase: backend.Generating} // explainInterruption sets its reason
	}
	_ = a.resp.Body.Close() // closing a read body cannot lose data
	return nil, failed
}

func (p Params) accountingAttempt() accounting.Attempt {
	info := p.Backend.Info()
	return accounting.Attempt{Backend: info.Name, Model: p.Model, Metered: info.Metered, Estimate: p.Estimate}
}

// cancelWhenGone cancels an attempt when the backend's process exits, until stop is
// called.
func cancelWhenGone(ctx context.Context, gone <-chan struct{}, cancel context.CancelCauseFunc) (stop func()) {
	if gone == nil {
		return func() {}
	}
	answered := make(chan struct{})
	go func() {
		select {
		case <-gone:
			cancel(errExited)
		case <-answered:
		case <-ctx.Done():
		}
	}()
	return func() { close(answered) }
}

// explainInterruption sets the reason for which ctx was cancelled in the failure of an
// attempt, if ctx was cancelled.
func (p Params) explainInterruption(ctx context.Context, failed *backend.Failure) {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		failed.Reason, failed.Detail = backend.Timeout, fmt.Sprintf("did not answer within %s", p.Timeout)
	case !errors.Is(cause, errExited):
		return
	case p.Backend.Availability().Hung:
		failed.Reason, failed.Detail = backend.Stalled, "hung while the call waited for it"
	default:
		failed.Reason, failed.Detail = backend.Lost, "exited while the call waited for it"
	}
	failed.Response, failed.Message, failed.Next = nil, "", backend.NoRetry
}

// nameAndRedact sets the backend's name in a failure, and removes the backend's key from it.
func (p Params) nameAndRedact(failed *backend.Failure) {
	failed.Backend = p.Backend.Info().Name
	failed.Message, failed.Detail = p.Backend.Redact(failed.Message), p.Backend.Redact(failed.Detail)
}

// settled settles the reservation of an attempt that failed.
func settled(failed *backend.Failure, at *backend.Attempt, reserved *accounting.Reservation) *Failure {
	out := &Failure{Failure: *failed, Wait: at.Wait, modified: at.Lease != nil && at.Lease.Form != nil}
	switch {
	case reserved == nil:
	case failed.Billable():
		out.Charge = new(reserved.Settle(failed.Usage, false))
	default:
		reserved.Cancel()
	}
	return out
}
