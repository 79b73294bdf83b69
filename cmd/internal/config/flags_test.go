package config

import (
	"slices"
	"strings"
	"testing"
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
		"the demo": {flags: Flags{Demo: true}, started: "demo", want: map[string]Server{"demo": {Model: DefaultStateDir() + "/demo/demo.gguf", CtxSize: 8192, NGPULayers: 99, Args: []string{"--threads", "1"}}}},
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

func TestCheckArgs(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string // "" = let through
	}{
		"none":              {},
		"harmless":          {args: []string{"--flash-attn", "on", "-np", "8", "--no-host", "-mm", "clip.gguf", "--spec-default", "-ctk", "q8_0"}},
		"a value":           {args: []string{"--chat-template-kwargs", `{"--port":1}`}},
		"long":              {[]string{"-np", "8", "--port", "1"}, "--port can't be passed on: llmsup chooses"},
		"short":             {[]string{"-m", "x"}, "-m can't be passed on: pass --model"},
		"context":           {[]string{"-c", "1"}, "-c can't be passed on: pass --ctx-size"},
		"layers":            {[]string{"--gpu-layers", "1"}, "--gpu-layers can't be passed on: pass --n-gpu-layers"},
		"with =":            {[]string{"--host=x"}, "--host can't be passed on"},
		"underscores":       {[]string{"--ctx_size", "1"}, "--ctx-size can't be passed on"},
		"a download":        {[]string{"-hf", "a/b"}, "-hf can't be passed on: llmsup runs a file"},
		"a download's key":  {[]string{"--hf-token", "x"}, "--hf-token can't be passed on"},
		"a preset":          {[]string{"--gpt-oss-20b-default"}, "--gpt-oss-20b-default can't be passed on: llmsup runs a file"},
		"a router of its":   {[]string{"--models-dir", "/m"}, "--models-dir can't be passed on: llmsup runs one model per server"},
		"printing":          {[]string{"--version"}, "--version can't be passed on: run llama-server directly"},
		"help":              {[]string{"-h"}, "-h can't be passed on"},
		"its key":           {[]string{"--api_key=x"}, "--api-key can't be passed on"},
		"a zero byte":       {[]string{"a\x00b"}, "zero byte"},
		"metrics":           {[]string{"--metrics"}, "--metrics can't be passed on: llmsup sets it"},
		"devices":           {[]string{"--list-devices"}, "--list-devices can't be passed on"},
		"another's prefix":  {args: []string{"--metricsx", "--hostx", "-mx"}},
		"a path that fits":  {args: []string{"--lora", "/m/--default/x-default"}},
		"an empty argument": {args: []string{""}},
	} {
		err := CheckArgs(tc.args)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
