package maintenance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestDrainSteps: the steps of a drain, each once, with its text.
func TestDrainSteps(t *testing.T) {
	type look struct {
		phase      Phase
		pid, calls int
	}
	for name, tc := range map[string]struct {
		queued int
		looks  []look
		want   string
	}{
		"idle": {0, []look{{Requested, 7, 0}, {Draining, 7, 0}, {Stopping, 7, 0}, {Drained, 0, 0}}, `
			draining 0: it gets no new calls
			stopping 0: stopping its process (pid 7)
			stopped 0: its process (pid 7) has ended`},
		"with calls": {1, []look{{Draining, 7, 2}, {Draining, 7, 2}, {Draining, 7, 1}, {Draining, 7, 0}, {Stopping, 7, 0}, {Stopping, 0, 0}, {Drained, 0, 0}}, `
			draining 2: it gets no new calls, and 1 waiting call has left the queue
			running 2: 2 calls have to end first
			running 1: 1 call has to end first
			running 0: 0 calls have to end first
			stopping 0: stopping its process (pid 7)
			stopped 0: its process (pid 7) has ended`},
		"after the timeout": {2, []look{{Draining, 7, 3}, {Stopping, 7, 1}, {Stopping, 7, 0}, {Drained, 0, 0}}, `
			draining 3: it gets no new calls, and 2 waiting calls have left the queue
			running 3: 3 calls have to end first
			rescuing 3: the time is over: 3 calls continue elsewhere
			stopping 1: stopping its process (pid 7)
			stopped 0: its process (pid 7) has ended`},
		"kept": {0, []look{{Draining, 7, 1}, {Kept, 7, 0}}, `
			draining 1: it gets no new calls
			running 1: 1 call has to end first
			kept 0: no calls any more; its process (pid 7) keeps running and keeps its VRAM`},
		"without a process": {0, []look{{Requested, 0, 0}, {Drained, 0, 0}}, `
			draining 0: it gets no new calls
			stopped 0: none of its processes runs`},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			report := drainReport{server: "chat", queued: tc.queued}
			for _, l := range tc.looks {
				for _, s := range report.steps(l.phase, l.pid, l.calls) {
					got = append(got, fmt.Sprintf("%s %d: %s", s.Step, s.Calls, s.Text))
				}
			}
			want := strings.Split(strings.ReplaceAll(strings.TrimSpace(tc.want), "\t", ""), "\n")
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
