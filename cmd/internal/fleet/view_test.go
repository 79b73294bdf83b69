package fleet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

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

// TestPauseWithAnnouncements: a box of which an announcement arrives just as this process runs on,
// before the pause is noticed, is silent as soon as others.
func TestPauseWithAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s := New(Options{Settings: Settings{Name: "self"}, Log: zerolog.Nop()}), newSealer([]byte(fleetKey))
		look := func(after time.Duration) *View {
			time.Sleep(after)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.publish()
			return m.View()
		}
		for box := range 2 {
			name, value := announcement(s, box, 1)
			m.receive(s, name, value)
		}
		look(0)
		time.Sleep(time.Millisecond)
		name, value := announcement(s, 2, 1) // the last one before the pause
		m.receive(s, name, value)
		time.Sleep(10 * time.Minute)
		name, value = announcement(s, 0, 2)
		m.receive(s, name, value)
		if v := look(0); len(v.Boxes) != 3 {
			t.Errorf("after the pause the box knows %q", names(v))
		}
		for range int(silence / expireInterval) {
			look(expireInterval)
		}
		if v := m.View(); len(v.Boxes) > 0 {
			t.Errorf("%s later the box still knows %q, which are silent", silence, names(v))
		}
	})
}
