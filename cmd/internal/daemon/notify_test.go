package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/supervisor"
)

// hangingGPU is a driver that does not come back.
type hangingGPU struct{ hangs <-chan struct{} }

func (hangingGPU) Devices() string         { return "" }
func (hangingGPU) UnreclaimedVRAM() string { return "" }
func (g hangingGPU) Admit(context.Context) string {
	<-g.hangs
	return "no room"
}

// TestHungServer: an owner that does not come back keeps the watchdog from being
// fed, and one that waits in its own way does not.
func TestHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs, goesOn := make(chan struct{}), make(chan struct{})
		close(goesOn)
		ctx, cancel := context.WithCancel(t.Context())
		d := &Daemon{}
		all := &fleet{changed: make(chan struct{})}
		done := make(chan struct{}, 2)
		for name, gpu := range map[string]<-chan struct{}{"waits": goesOn, "hangs": hangs} {
			s := supervisor.New(supervisor.Spec{Name: name, Dir: t.TempDir(), GPU: hangingGPU{gpu}}, engine, zerolog.Nop(), nil)
			all.servers = append(all.servers, &managedServer{name: name, server: s})
			go func() { s.Run(ctx); done <- struct{}{} }()
		}
		d.fleet.Store(all)
		time.Sleep(maxHeartbeatAge)
		if stuck := d.hungServer(); stuck != "" {
			t.Errorf("after %s it is said that %s is stuck", maxHeartbeatAge, stuck)
		}
		time.Sleep(time.Second)
		if stuck := d.hungServer(); stuck != "hangs" {
			t.Errorf("stuck is %q, want the one that hangs", stuck)
		}
		close(hangs)
		time.Sleep(time.Second)
		if stuck := d.hungServer(); stuck != "" {
			t.Errorf("it has come back, and still %s is stuck", stuck)
		}
		cancel()
		<-done
		<-done
	})
}
