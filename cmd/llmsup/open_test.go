package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindOpener(t *testing.T) {
	empty, desktop := t.TempDir(), t.TempDir()
	opener := filepath.Join(desktop, "xdg-open")
	if err := os.WriteFile(opener, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(empty, "xdg-open"), nil, 0o644); err != nil { // no program
		t.Fatal(err)
	}
	path := empty + ":" + desktop
	for name, tc := range map[string]struct {
		terminal bool
		env      map[string]string
		want     string
	}{
		"X11":           {true, map[string]string{"DISPLAY": ":0", "PATH": path}, opener},
		"Wayland":       {true, map[string]string{"WAYLAND_DISPLAY": "wayland-0", "PATH": path}, opener},
		"no desktop":    {true, map[string]string{"PATH": path}, ""},
		"a pipe":        {false, map[string]string{"DISPLAY": ":0", "PATH": path}, ""},
		"no xdg-open":   {true, map[string]string{"DISPLAY": ":0", "PATH": empty}, ""},
		"relative PATH": {true, map[string]string{"DISPLAY": ":0", "PATH": "."}, ""},
	} {
		if got := findOpener(tc.terminal, func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
