package backend

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/router/wire"
)

// The rate is that of the tokens that were not cached, from the time at which the call got its
// slot.
func TestPromptRate(t *testing.T) {
	usage := func(prompt, cached int64) wire.Usage { return wire.Usage{Prompt: &prompt, Cached: &cached} }
	unknown := usage(1000, 0)
	unknown.Cached = nil
	for name, tc := range map[string]struct {
		usages []wire.Usage // of calls whose answers begin after a second
		want   float64
	}{
		"no call":              {nil, 0},
		"a prompt":             {[]wire.Usage{usage(1000, 0)}, 1000},
		"a cached part":        {[]wire.Usage{usage(1000, 800)}, 200},
		"all but all cached":   {[]wire.Usage{usage(1000, 999)}, 0},
		"unknown cache":        {[]wire.Usage{unknown}, 0},
		"no usage":             {[]wire.Usage{{}}, 0},
		"two":                  {[]wire.Usage{usage(1000, 0), usage(3000, 0)}, 2000},
		"long ones count half": {[]wire.Usage{usage(60_000, 0), usage(3000, 0)}, 33_000 / 1.5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := &settableLocal{}
				local.becomes(LocalState{Alive: true, Slots: 1})
				b := NewServer("qwen", local, nil)
				for _, u := range tc.usages {
					before, _ := b.Admit(t.Context(), &Attempt{Request: &request.Request{}, Timeout: time.Hour})
					time.AfterFunc(time.Minute, func() { before.Release(Completed) })
					lease, failed := b.Admit(t.Context(), &Attempt{Request: &request.Request{}, Timeout: time.Hour}) // it waits a minute
					if failed != nil {
						t.Fatal(failed.Detail)
					}
					time.Sleep(time.Second)
					lease.Prompt(u, time.Now())
					lease.Release(Completed)
				}
				if got := b.PromptRate(); got != tc.want {
					t.Errorf("%v tokens per second, want %v", got, tc.want)
				}
			})
		})
	}
}
