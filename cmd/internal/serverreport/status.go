package serverreport

import (
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/downloads"
	"github.com/llmsup/llmsup/cmd/internal/gpureport"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/supervisor"
)

// Status returns the servers as `llmsup status` shows them, without their drains.
func (r *Reporter) Status() (all []control.Server) {
	for _, s := range r.Servers() {
		now := s.Process.Snapshot()
		status := statusOf(now, s.Load)
		status.Aggregation = s.Aggregation
		addLoad(&status, now, s.Figures, s.Load, time.Now())
		addReading(&status, s)
		status.VRAM, status.Download = gpureport.VRAM(s.Workload, now.PID), downloadStatus(s.Download)
		all = append(all, status)
	}
	return all
}

// statusOf returns what the supervisor and the router know of a server.
func statusOf(now *supervisor.Snapshot, traffic plan.Load) control.Server {
	s := control.Server{
		Name: now.Name, State: now.State.String(), Since: now.Since, Reason: now.Reason, PID: now.PID,
		Restarts: now.Restarts, Model: now.Model, CtxSize: now.CtxSize, Slots: now.Slots, Busy: traffic.Calls, Queued: traffic.Queued,
	}
	if traffic.Service > 0 {
		s.ServiceSeconds = new(traffic.Service.Seconds())
	}
	if traffic.PromptRate > 0 {
		s.PromptTokensPerSecond = &traffic.PromptRate
	}
	if now.Description != nil {
		s.ContextLength, s.Capabilities = now.Description.CtxSize, now.Description.Abilities
	}
	if e := now.LastExit; e != nil {
		s.LastExit = &control.LastExit{At: e.At, Code: e.Code, Signal: e.Signal, Class: string(e.Class), Tail: e.Tail}
		if s.LastExit.Tail == nil {
			s.LastExit.Tail = []string{}
		}
	}
	return s
}

// downloadStatus returns the download of a server's model; nil = it is there.
func downloadStatus(now *downloads.State) *control.Download {
	if now == nil {
		return nil
	}
	return &control.Download{
		Ref: now.Ref, DoneBytes: now.Done, TotalBytes: known(max(now.Total, 0)), BytesPerSecond: known(now.Rate), Problem: now.Problem, NextTry: known(now.NextTry),
	}
}
