package main

import (
	"context"
	"os"
	"testing"
	"time"
)

// cloudEnv is the environment in which llmsup has the cloud's key.
const cloudEnv = "TEST_OPENROUTER_KEY=" + cloudKey

// TestAlternation: calls for two models alternate, five in a second, on a GPU for one of
// them. No call fails, with a fallback or without, and both models get their turns.
//
// It takes some seconds, or the five minutes of a long day if LLMSUP_TEST_LONG is set.
func TestAlternation(t *testing.T) {
	long := 15 * time.Second
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		long = 5 * time.Minute
	}
	for name, tc := range map[string]struct {
		fallback bool
		route    string
	}{
		"with a fallback":           {true, "timeout: 50s"},
		"waiting before a fallback": {true, "while_loading: 2s"},
		"without a fallback":        {false, "timeout: 50s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newVRAMMachine(t)
			sizes := map[string]int{"a": 14, "b": 15}
			m.setSizes(sizes)
			var cloud *countingCloud
			if tc.fallback {
				cloud = newCountingCloud(t)
			}
			in := m.launch(newTestConfig(t, m.config(cloud, tc.route, sizes)).path, cloudEnv)
			traffic := newSwapTraffic(t, in, cloud)
			ctx, stop := context.WithTimeout(t.Context(), long)
			defer stop()
			traffic.alternate(ctx, 5, "a", "b")
			traffic.end()
			for _, model := range []string{"a", "b"} {
				if starts, refused := m.countStarts(model); starts == 0 || refused > 0 {
					t.Errorf("%s was started %d times, and ran out of memory %d times", model, starts, refused)
				}
			}
			in.checkNothingLeft()
		})
	}
}
