package llamacpp

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestParseFeatures(t *testing.T) {
	help := `--host HOST      ip address to listen, or bind to an UNIX
                                        socket if the address ends with .sock (default: 127.0.0.1)
--metrics   enable prometheus compatible metrics endpoint`
	if got, want := parseFeatures(help), (features{unixSocket: true, metrics: true}); got != want {
		t.Errorf("parseFeatures = %+v, want %+v", got, want)
	}
}

func TestFindBinary(t *testing.T) {
	dir := t.TempDir()
	onPath, cache, home := filepath.Join(dir, "path"), filepath.Join(dir, "cache"), filepath.Join(dir, "home")
	arch := debianArch(runtime.GOARCH)
	cached := filepath.Join(cache, "llama-server", arch, "llama-server")
	cachedAtHome := filepath.Join(home, ".cache/llmsup/llama-server", arch, "llama-server")
	const program = 0o700
	for name, tc := range map[string]struct {
		path  string
		env   map[string]string
		files map[string]os.FileMode
		want  string // a path, or part of the error
	}{
		"nowhere":                     {want: "no llama-server on PATH or at " + cachedAtHome + "; scripts/llama-server.sh gets one, or pass --llama-server FILE"},
		"nowhere, cache named":        {env: map[string]string{"LLMSUP_CACHE_DIR": cache}, want: "no llama-server on PATH or at " + cached + ";"},
		"nowhere, no home":            {env: map[string]string{"HOME": ""}, want: "no llama-server on PATH; scripts/llama-server.sh gets one"},
		"on PATH":                     {files: map[string]os.FileMode{onPath + "/llama-server": program, cachedAtHome: program}, want: onPath + "/llama-server"},
		"in the cache":                {files: map[string]os.FileMode{cachedAtHome: program}, want: cachedAtHome},
		"in the cache that is named":  {env: map[string]string{"LLMSUP_CACHE_DIR": cache}, files: map[string]os.FileMode{cached: program, cachedAtHome: program}, want: cached},
		"in the cache, no program":    {files: map[string]os.FileMode{cachedAtHome: 0o600}, want: "no llama-server on PATH or at "},
		"in XDG's cache":              {env: map[string]string{"XDG_CACHE_HOME": dir + "/xdg"}, files: map[string]os.FileMode{dir + "/xdg/llmsup/llama-server/" + arch + "/llama-server": program}, want: dir + "/xdg/llmsup/llama-server/" + arch + "/llama-server"},
		"named":                       {path: cached, files: map[string]os.FileMode{cached: program, onPath + "/llama-server": program}, want: cached},
		"named, not there":            {path: "/nowhere/llama-server", files: map[string]os.FileMode{onPath + "/llama-server": program}, want: "no llama-server that can be run at /nowhere/llama-server: no such file or directory; pass its path with --llama-server"},
		"named, not executable":       {path: cached, files: map[string]os.FileMode{cached: 0o600}, want: "permission denied"},
		"named, a folder":             {path: dir, want: "is a folder; pass the program in it, as " + dir + "/llama-server"},
		"named by its name, not PATH": {path: "llama-server", want: "no llama-server that can be run at llama-server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", onPath)
			t.Setenv("HOME", home)
			t.Setenv("LLMSUP_CACHE_DIR", "")
			t.Setenv("XDG_CACHE_HOME", "")
			for name, value := range tc.env {
				t.Setenv(name, value)
			}
			for path, mode := range tc.files {
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.Remove(path) })
			}
			got, err := FindBinary(tc.path)
			if filepath.IsAbs(tc.want) {
				if err != nil || got != tc.want {
					t.Errorf("FindBinary = %q, %v; want %q", got, err, tc.want)
				}
			} else if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("FindBinary = %q, %v; want an error with %q", got, err, tc.want)
			}
		})
	}
}
