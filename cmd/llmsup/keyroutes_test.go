package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeyRoutesThatNothingServes: reload and check reject routes of a key that do not
// exist; start only warns, so that it does not depend on OpenRouter's list.
func TestKeyRoutesThatNothingServes(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	dir := shortDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "prices"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := fmt.Sprintf(`{"from":%q,"at":%q,"list":[{"id":"openai/gpt-4.1"}]}`, c.URL+"/api/v1", time.Now().UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(dir, "prices", "openrouter.json"), []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	key, entry := newKeyEntry(t, "tool", ", routes: [gpt-4.1, ROUTE]")
	text := fmt.Sprintf("upstreams:\n  openrouter: {base_url: %q}\nkeys:\n%s", c.URL+"/api/v1", entry)
	file := newTestConfig(t, strings.Replace(text, "ROUTE", "gone", 1))
	in := launchIn(t, dir, nil, "--config", file.path)
	works := func() {
		t.Helper()
		if r := in.request("POST", "/v1/chat/completions", `{"model":"gpt-4.1"}`, "X-Api-Key", key); r.status != 200 {
			t.Errorf("%+v", r)
		}
	}
	works()
	if !strings.Contains(in.logged(), `keys.tool.routes: no route serves \"gone\"`) {
		t.Errorf("no warning:\n%s", in.logged())
	}
	for route, wrong := range map[string]bool{"gtp-4o": true, "local/typo": true, "gpt-4o-mini": false, `"local/*"`: false} {
		file.write(strings.Replace(text, "ROUTE", route, 1))
		want := fmt.Sprintf("%s:4: keys.tool.routes: no route serves %q; there are ", file.path, route)
		if code, out := in.reload(); wrong != (code == 1) || wrong != strings.Contains(out, want) {
			t.Errorf("reload with %s: exit %d\n%s", route, code, out)
		}
		if _, out := runCommand(t, "check", "--config", file.path, "--state-dir", dir); wrong != strings.Contains(out, "error    "+want) {
			t.Errorf("check with %s:\n%s", route, out)
		}
		works()
	}
}
