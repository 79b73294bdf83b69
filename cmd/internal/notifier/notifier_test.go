package notifier

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/supervisor"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// hangingGPU is a driver whose calls hang.
type hangingGPU struct{ hangs <-chan struct{} }

func (hangingGPU) Devices() string         { return "" }
func (hangingGPU) UnreclaimedVRAM() string { return "" }
func (g hangingGPU) Admit(context.Context) string {
	<-g.hangs
	return "no room"
}

// TestHungServer: a server whose owner goroutine hangs stops the watchdog's notifications, and one that
// waits does not.
func TestHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, goesOn := make(chan struct{}), make(chan struct{})
		close(goesOn)
		ctx, cancel := context.WithCancel(t.Context())
		var servers []*supervisor.Server
		done := make(chan struct{}, 2)
		for name, gpu := range map[string]<-chan struct{}{"waits": goesOn, "hangs": hangs} {
			s := supervisor.New(supervisor.Spec{Name: name, Dir: t.TempDir(), GPU: hangingGPU{gpu}}, llamacpp.Engine{}, zerolog.Nop(), nil)
			servers = append(servers, s)
			go func() { s.Run(ctx); done <- struct{}{} }()
		}
		n := New(Options{Servers: func() ([]*supervisor.Server, <-chan struct{}) { return servers, nil }})
		time.Sleep(maxHeartbeatAge)
		if hung := n.hungServer(); hung != "" {
			t.Errorf("after %s, %s counts as hung", maxHeartbeatAge, hung)
		}
		time.Sleep(time.Second)
		if hung := n.hungServer(); hung != "hangs" {
			t.Errorf("hung server %q, want the one that hangs", hung)
		}
		close(hangs)
		time.Sleep(time.Second)
		if hung := n.hungServer(); hung != "" {
			t.Errorf("it continues, but %s still counts as hung", hung)
		}
		cancel()
		<-done
		<-done
	})
}
