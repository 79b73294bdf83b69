package supervisor

import (
	"context"
	"time"
)

// GPU is what a server has to know of the GPUs that it runs on. Its methods do
// not wait for the driver.
type GPU interface {
	// Devices returns those that the next process is to use: "" for all, "none", or
	// what CUDA_VISIBLE_DEVICES takes.
	Devices() string
	// UnreclaimedVRAM says how much of the VRAM that the last process held is not back
	// yet, in words; "" = enough of it is, or nobody can tell.
	UnreclaimedVRAM() string
	// Admit says why a process can't be started now, in words; "" = it can. It may
	// wait for the first reading there is, some seconds.
	Admit(ctx context.Context) string
}

// noGPU is the GPU of those who can't tell: nothing is ever waited for.
type noGPU struct{}

func (noGPU) Devices() string              { return "" }
func (noGPU) UnreclaimedVRAM() string      { return "" }
func (noGPU) Admit(context.Context) string { return "" }

const (
	// returnPatience is how long the VRAM of the last process may take to come
	// back. The driver mostly needs a second or two, sometimes more than five.
	returnPatience = 10 * time.Second
	returnLook     = 100 * time.Millisecond
	admitLook      = 2 * time.Second
)

// awaitVRAM keeps a start back until there is room for it. It returns false
// when there is something else to do first: an order came in, or ctx ended.
func (s *Server) awaitVRAM(ctx context.Context) bool {
	const before = "waiting for the VRAM of its last process: "
	tick := time.NewTicker(returnLook)
	defer tick.Stop()
	for deadline := time.Now().Add(returnPatience); s.starts > 0; {
		missing := s.spec.GPU.UnreclaimedVRAM()
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			s.log.Warn().Int("waited_s", int(returnPatience/time.Second)).Msg("not all VRAM of the last process has come back, and it is not waited for any longer: " + missing)
			break
		}
		s.enter(Starting, before+missing, nil)
		if !s.pause(ctx, tick.C) {
			return false
		}
	}

	tick.Reset(admitLook)
	for told := false; ; told = true {
		why := s.spec.GPU.Admit(ctx)
		if ctx.Err() != nil {
			return false
		}
		if why == "" {
			return true
		}
		if !told {
			s.log.Warn().Msg("llama-server is not started yet: " + why)
		}
		s.enter(Starting, why, nil)
		if !s.pause(ctx, tick.C) {
			return false
		}
	}
}

// pause waits for a tick, and returns false when something else came first.
func (s *Server) pause(ctx context.Context, tick <-chan time.Time) bool {
	s.turns.turn()
	select {
	case <-ctx.Done():
		return false
	case <-s.orders.came:
		return false
	case <-tick:
		return true
	}
}
