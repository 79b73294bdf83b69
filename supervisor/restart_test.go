package supervisor

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	want := []time.Duration{
		time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second,
		time.Minute, time.Minute,
	}
	for i, pause := range want {
		if got := backoff(i+1, 0); got != pause {
			t.Errorf("pause after failure %d is %s, want %s", i+1, got, pause)
		}
		if got, least := backoff(i+1, 0.999), pause*79/100; got < least || got >= pause {
			t.Errorf("pause after failure %d with jitter is %s, want within [%s, %s)", i+1, got, least, pause)
		}
	}
	for _, failures := range []int{0, 100, 1 << 40} {
		if got := backoff(failures, 0); got < time.Second || got > time.Minute {
			t.Errorf("backoff(%d) = %s, out of [1s, 1m]", failures, got)
		}
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	if got := failuresAfter(6, 9*time.Minute); got != 7 {
		t.Errorf("after 9 minutes of health: %d failures, want 7", got)
	}
	if got := failuresAfter(6, 10*time.Minute); got != 1 {
		t.Errorf("after 10 minutes of health: %d failures, want 1", got)
	}
}
