package fleet

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// Announcements that come together make one view.
func TestViewsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{Settings: Settings{Name: "self"}, Log: zerolog.Nop()})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go m.expire(ctx)
		synctest.Wait()
		first, s := m.View(), newSealer([]byte(fleetKey))
		for box := range 50 {
			name, value := announcement(s, box, 1)
			m.receive(s, name, value)
		}
		if m.View() != first {
			t.Error("an announcement has made a view of its own")
		}
		<-first.Changed
		if n := len(m.View().Boxes); n != 50 {
			t.Errorf("the next view has %d of 50 boxes", n)
		}
	})
}
