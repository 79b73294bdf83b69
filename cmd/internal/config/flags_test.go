package config

import (
	"slices"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/config/paths"
)

func TestApply(t *testing.T) {
	const file = "servers: {a: {model: a.gguf, ctx_size: 100, args: [-x]}, demo: {model: own.gguf}}"
	set := func(n int) *int { return &n }
	for name, tc := range map[string]struct {
		flags   Flags
		started string
		want    map[string]Server
	}{
		"nothing": {want: map[string]Server{
			"a": {Model: "a.gguf", CtxSize: 100, NGPULayers: 99, Args: []string{"-x"}}, "demo": {Model: "own.gguf", CtxSize: 8192, NGPULayers: 99},
		}},
		"a model": {
			flags: Flags{Model: "/m/New-Q8_0.gguf", CtxSize: set(7), NGPULayers: set(0), Args: []string{"-y"}}, started: "new",
			want: map[string]Server{
				"new": {Model: "/m/New-Q8_0.gguf", CtxSize: 7, Args: []string{"-y"}},
				"a":   {Model: "a.gguf", CtxSize: 100, NGPULayers: 99, Args: []string{"-x"}},
			},
		},
		"a model that the file has": {
			flags: Flags{Model: "/m/a.gguf", Args: []string{"-y"}}, started: "a",
			want: map[string]Server{"a": {Model: "/m/a.gguf", CtxSize: 100, NGPULayers: 99, Args: []string{"-x", "-y"}}},
		},
		"the demo": {flags: Flags{Demo: true}, started: "demo", want: map[string]Server{"demo": {Model: paths.StateDir() + "/demo/demo.gguf", CtxSize: 8192, NGPULayers: 99, Args: []string{"--threads", "1"}}}},
		"flags for the file's": {
			flags: Flags{CtxSize: set(9), Args: []string{"-y"}},
			want: map[string]Server{
				"a": {Model: "a.gguf", CtxSize: 9, NGPULayers: 99, Args: []string{"-x", "-y"}}, "demo": {Model: "own.gguf", CtxSize: 9, NGPULayers: 99, Args: []string{"-y"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, file)
			if err := c.Apply(tc.flags); err != nil {
				t.Fatal(err)
			}
			if c.FlagServer != tc.started {
				t.Errorf("started %q, want %q", c.FlagServer, tc.started)
			}
			for server, want := range tc.want {
				got := c.Servers[server]
				if got.Model != want.Model || got.CtxSize != want.CtxSize || got.NGPULayers != want.NGPULayers || !slices.Equal(got.Args, want.Args) {
					t.Errorf("%s: %+v, want %+v", server, got, want)
				}
			}
		})
	}
	c := Default()
	if err := c.Apply(Flags{Args: []string{"--port", "1"}}); err == nil {
		t.Error("--port was let through")
	}
}
