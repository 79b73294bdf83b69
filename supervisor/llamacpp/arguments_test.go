package llamacpp

import (
	"strings"
	"testing"
)

func TestCheckArgs(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		want string // "" = accepted
	}{
		"none":              {},
		"harmless":          {args: []string{"--flash-attn", "on", "-np", "8", "--no-host", "-mm", "clip.gguf", "--spec-default", "-ctk", "q8_0"}},
		"a value":           {args: []string{"--chat-template-kwargs", `{"--port":1}`}},
		"long":              {[]string{"-np", "8", "--port", "1"}, "--port cannot be passed on: llmsup chooses"},
		"short":             {[]string{"-m", "x"}, "-m cannot be passed on: pass --model"},
		"context":           {[]string{"-c", "1"}, "-c cannot be passed on: pass --ctx-size"},
		"layers":            {[]string{"--gpu-layers", "1"}, "--gpu-layers cannot be passed on: pass --n-gpu-layers"},
		"with =":            {[]string{"--host=x"}, "--host cannot be passed on"},
		"underscores":       {[]string{"--ctx_size", "1"}, "--ctx-size cannot be passed on"},
		"a download":        {[]string{"-hf", "a/b"}, "-hf cannot be passed on: llmsup runs a file"},
		"a download's key":  {[]string{"--hf-token", "x"}, "--hf-token cannot be passed on"},
		"a preset":          {[]string{"--gpt-oss-20b-default"}, "--gpt-oss-20b-default cannot be passed on: llmsup runs a file"},
		"a router of its":   {[]string{"--models-dir", "/m"}, "--models-dir cannot be passed on: llmsup runs one model per server"},
		"printing":          {[]string{"--version"}, "--version cannot be passed on: run llama-server directly"},
		"help":              {[]string{"-h"}, "-h cannot be passed on"},
		"its key":           {[]string{"--api_key=x"}, "--api-key cannot be passed on"},
		"a zero byte":       {[]string{"a\x00b"}, "zero byte"},
		"metrics":           {[]string{"--metrics"}, "--metrics cannot be passed on: llmsup sets it"},
		"devices":           {[]string{"--list-devices"}, "--list-devices cannot be passed on"},
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
