package supervisor

import (
	"context"
	"time"
)

// GPU is what a server has to know about the GPUs that it runs on. Its methods do
// not wait for the driver.
type GPU interface {
	// Devices returns which GPUs the next process may use: "" for all, "none", or a
	// value of CUDA_VISIBLE_DEVICES.
	Devices() string
	// UnreclaimedVRAM returns how much of the VRAM that the last process held is not
	// free yet, as a message; "" = enough of it is, or it is not known.
	UnreclaimedVRAM() string
	// Admit returns why a process cannot be started now, as a message; "" = it can. It
	// may wait some seconds for the first reading of the GPUs.
	Admit(ctx context.Context) string
}

// noGPU is the GPU of a Spec that has none: nothing prevents a start.
type noGPU struct{}

func (noGPU) Devices() string              { return "" }
func (noGPU) UnreclaimedVRAM() string      { return "" }
func (noGPU) Admit(context.Context) string { return "" }

const (
	// reclaimTimeout is how long a start waits for the VRAM of the last process. The
	// driver mostly needs a second or two, sometimes more than five.
	reclaimTimeout  = 10 * time.Second
	reclaimInterval = 100 * time.Millisecond
	admitInterval   = 2 * time.Second
)

// awaitVRAM delays a start until the process has room. It returns false if there
// is something else to do first: a command arrived, or ctx ended.
func (s *Server) awaitVRAM(ctx context.Context) bool {
	return s.awaitReclaimed(ctx) && s.awaitAdmission(ctx)
}

// awaitReclaimed waits until the VRAM of the last process is free, for
// reclaimTimeout at most.
func (s *Server) awaitReclaimed(ctx context.Context) bool {
	for deadline := time.Now().Add(reclaimTimeout); s.starts > 0; {
		unreclaimed := s.spec.GPU.UnreclaimedVRAM()
		if unreclaimed == "" {
			break
		}
		if time.Now().After(deadline) {
			s.log.Warn().Int("waited_s", int(reclaimTimeout/time.Second)).
				Msg("not all VRAM of the last process has come back, and it is not waited for any longer: " + unreclaimed)
			break
		}
		s.transition(Starting, "waiting for the VRAM of its last process: "+unreclaimed, nil)
		if !s.pause(ctx, reclaimInterval) {
			return false
		}
	}
	return true
}

// awaitAdmission waits for as long as the GPU does not admit the process.
func (s *Server) awaitAdmission(ctx context.Context) bool {
	for logged := false; ; logged = true {
		reason := s.spec.GPU.Admit(ctx)
		if ctx.Err() != nil {
			return false
		}
		if reason == "" {
			return true
		}
		if !logged {
			s.log.Warn().Msg(s.program + " is not started yet: " + reason)
		}
		s.transition(Starting, reason, nil)
		if !s.pause(ctx, admitInterval) {
			return false
		}
	}
}
