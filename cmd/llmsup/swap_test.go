package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// cloudEnv is the environment in which llmsup has the cloud's key.
const cloudEnv = "TEST_OPENROUTER_KEY=" + cloudKey

// TestAlternation: calls for two models alternate, five in a second, on a GPU for one of
// them. No call fails, with a fallback or without, and both models get their turns. With a
// fallback, b has twice as many calls: of two models with equal calls the one that is loaded stays,
// since its calls would cost as much as those of the other one do now.
//
// It takes some seconds, or five minutes for each case if LLMSUP_TEST_LONG is set.
func TestAlternation(t *testing.T) {
	long := 8 * time.Second
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		long = 5 * time.Minute
	}
	for name, tc := range map[string]struct {
		fallback bool
		route    string
		calls    []string
	}{
		// a is loaded first. b takes its place if it gets more than twice as many calls, however long a load takes.
		"with a fallback":           {true, "timeout: 5m", []string{"a", "b", "b", "b", "b", "b"}},
		"waiting before a fallback": {true, "while_loading: 2s", []string{"a", "b", "b", "b", "b", "b"}},
		"without a fallback":        {false, "timeout: 5m", []string{"a", "b"}},
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
			ctx, stop := context.WithCancel(t.Context())
			var calling sync.WaitGroup
			calling.Go(func() { traffic.alternate(ctx, 5, tc.calls...) })
			began, models := time.Now(), []string{"a", "b"}
			if !eventually(long+testTimeout, func() bool { // on a busy machine, a load takes seconds, and its model stays for twice as long
				return time.Since(began) > long && !slices.ContainsFunc(models, func(name string) bool { starts, _ := m.countStarts(name); return starts == 0 })
			}) {
				t.Error("not both models were started")
			}
			stop()
			calling.Wait()
			traffic.end()
			for _, model := range models {
				if _, refused := m.countStarts(model); refused > 0 {
					t.Errorf("%s ran out of memory %d times", model, refused)
				}
			}
			in.checkNothingLeft()
		})
	}
}

// TestMixedEngines: llama-servers and another engine share a GPU for two of three models. The
// engine needs more VRAM than the configuration says: that is measured.
func TestMixedEngines(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	m.engines["voice"] = true
	m.setSizes(map[string]int{"a": 11, "b": 11, "voice": 9})
	config := strings.Replace(m.config(nil, "timeout: 5m", map[string]int{"a": 11, "b": 11}), "routes:\n",
		engineServer("voice", "--name, voice, --start, 300ms, --parallel, 4", "load: on_demand", "vram: 5GiB", "slots: 4", `gpu: "0"`)+"routes:\n", 1)
	in := m.launch(newTestConfig(t, config+"  local/voice: {primary: voice, timeout: 5m}\n").path)
	traffic := newSwapTraffic(t, in, nil)
	ctx, stop := context.WithTimeout(t.Context(), 8*time.Second)
	defer stop()
	traffic.alternate(ctx, 5, "a", "voice", "b")
	traffic.end()
	if n := traffic.count("voice", "voice"); n == 0 {
		t.Error("the engine has answered no call")
	}
	now := in.awaitModel("voice", "measured", func(m control.Model) bool { return m.VRAMMeasuredBytes != nil })
	if *now.VRAMMeasuredBytes != 9*gib || *now.VRAMNeedBytes != 9*gib || now.Loads == 0 {
		t.Errorf("%+v", now)
	}
	in.checkNothingLeft()
}

// TestAssumedTooLittle: models that need more than the configuration says, and are wanted at
// once, are loaded after each other as soon as that is known.
func TestAssumedTooLittle(t *testing.T) {
	t.Parallel()
	m := newVRAMMachine(t)
	m.setSizes(map[string]int{"a": 14, "b": 15})
	in := m.launch(newTestConfig(t, m.config(nil, "timeout: 5m", map[string]int{"a": 11, "b": 11})).path)
	traffic := newSwapTraffic(t, in, nil)
	traffic.call("a", 10, true)
	traffic.call("b", 10, true)
	traffic.all.Wait()
	t.Logf("the first calls have taken %s at most", max(traffic.longest("a"), traffic.longest("b"))) // one that waits for VRAM that another model has fails after minutes
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	traffic.alternate(ctx, 5, "a", "b")
	traffic.end()
	for _, model := range []string{"a", "b"} {
		if starts, refused := m.countStarts(model); refused > 1 {
			t.Errorf("%s ran out of memory %d times in %d starts", model, refused, starts)
		}
	}
	in.checkNothingLeft()
}

// TestAgentsBesideShortCalls: agents read one long stream after the other of one model, while
// short calls for another one arrive, on a GPU for one of them. All streams are whole, and
// their model leaves for the short calls.
func TestAgentsBesideShortCalls(t *testing.T) {
	for name, tc := range map[string]struct {
		fallback bool
		route    string
	}{
		"with a fallback":    {true, "while_loading: wait, timeout: 5m"}, // otherwise it would have all streams
		"without a fallback": {false, "timeout: 5m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newVRAMMachine(t)
			sizes := map[string]int{"agent": 14, "short": 15}
			m.setSizes(sizes)
			var cloud *countingCloud
			if tc.fallback {
				cloud = newCountingCloud(t)
			}
			in := m.launch(newTestConfig(t, m.config(cloud, tc.route, sizes)).path, cloudEnv)
			traffic := newSwapTraffic(t, in, cloud)
			ctx, stop := context.WithCancel(t.Context())
			var calling sync.WaitGroup
			calling.Go(func() { traffic.eachSecond(ctx, "short", 10) })
			var agents sync.WaitGroup
			for range 2 {
				agents.Go(func() {
					began := time.Now()
					left := func() bool { starts, _ := m.countStarts("agent"); return starts > 1 }
					for i := 0; i < 2 || !left() && time.Since(began) < testTimeout; i++ { // a model stays for twice as long as a load takes
						<-traffic.call("agent", 2000, true)
					}
				})
			}
			agents.Wait()
			stop()
			calling.Wait()
			traffic.end()
			t.Logf("the short calls have taken %s at most", traffic.longest("short"))
			if starts, _ := m.countStarts("agent"); starts < 2 || traffic.count("short", "short") == 0 {
				t.Errorf("no model left for another one: %d starts", starts)
			}
			in.checkNothingLeft()
		})
	}
}
