package browser_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

const staticDir = "../static"

// TestStaticFiles keeps the page what it is: small, in short modules, without HTML from strings, without inline scripts
// and styles (which the Content-Security-Policy would forbid), and with its I/O in two modules.
func TestStaticFiles(t *testing.T) {
	files, err := os.ReadDir(staticDir)
	if err != nil {
		t.Fatal(err)
	}
	forbidden := map[string]*regexp.Regexp{
		"HTML from a string":            regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML`),
		"code from a string":            regexp.MustCompile(`\beval\(|new Function|set(Timeout|Interval)\(['"` + "`]"),
		"an inline handler or script":   regexp.MustCompile(`(?i)<[a-z][^>]*\son[a-z]+=|<script(?:[^>]*\bsrc=)?[^>]*>[^<]|setAttribute\(['"]on`),
		"an inline style":               regexp.MustCompile(`(?i)<[^>]*\sstyle=|[{,] ?style:|setAttribute\(['"]style|<style`),
		"an address of another origin":  regexp.MustCompile(`(?i)(?:src|href|url|import|from|fetch)\W{1,3}(?:https?:)?//`),
		"storage that outlives the tab": regexp.MustCompile(`localStorage|sessionStorage|indexedDB|document\.cookie`),
	}
	io := regexp.MustCompile(`\bfetch\(|new (?:XMLHttpRequest|EventSource|WebSocket)\b|sendBeacon`)
	size := 0
	for _, entry := range files {
		name := entry.Name()
		raw, err := os.ReadFile(filepath.Join(staticDir, name))
		if err != nil {
			t.Fatal(err)
		}
		size += len(raw)
		if lines := strings.Count(string(raw), "\n"); lines > 300 {
			t.Errorf("%s has %d lines: split it by concern", name, lines)
		}
		for what, pattern := range forbidden {
			if found := pattern.FindString(string(raw)); found != "" && name != "icon.svg" {
				t.Errorf("%s has %s: %s", name, what, found)
			}
		}
		if found := io.FindString(string(raw)); found != "" && !slices.Contains([]string{"api.js", "events.js"}, name) {
			t.Errorf("%s does I/O: %s; only api.js and events.js may", name, found)
		}
	}
	t.Logf("%d files, %d bytes", len(files), size)
	if size > 200_000 {
		t.Errorf("the files have %d bytes, more than 200,000", size)
	}
}

// TestNode runs the tests in testdata of the modules that have neither a document nor I/O.
func TestNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		browser.NotRun(t, "it needs node 20 or newer")
	}
	static, err := filepath.Abs(staticDir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "--test", "--test-reporter=spec", "testdata/")
	cmd.Env = append(os.Environ(), "PAGE_STATIC="+static, "TZ=UTC", "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
