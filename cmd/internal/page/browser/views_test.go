package browser_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// views are all views, each with a text that appears once it is complete.
var views = map[string]string{
	"now": "In flight (5)", "calls?since=7d": "100 calls, and more", "calls/900000": "no answer within 60 s", "money": "Why calls left local", "models": "after unloading",
	"logs": "offloaded 33/33 layers", "try": "local/qwen2.5-14b is free on the GPU",
}

// TestViews shows each view on a phone and on a large screen, in both colour schemes: it renders, nothing is wider than
// the screen, and (as in all tests here) it logs no error and requests nothing from elsewhere.
func TestViews(t *testing.T) {
	looks := map[string]browser.Look{
		"phone":      {Width: 360, Height: 740, Phone: true},
		"laptop":     {Width: 1280, Height: 800},
		"dark":       {Width: 1280, Height: 800, Dark: true},
		"dark phone": {Width: 360, Height: 740, Phone: true, Dark: true},
		"large":      {Width: 1920, Height: 1080},
	}
	f := newFixture(t)
	for view, text := range views {
		for name, look := range looks {
			t.Run(view+"/"+name, func(t *testing.T) {
				tab := open(t, f, view, look)
				tab.AwaitText(text)
				if wide := tab.Eval("document.documentElement.scrollWidth > innerWidth"); wide != "false" {
					t.Errorf("it scrolls sideways: %s", tab.Eval(widest))
				}
				if dir := os.Getenv("LLMSUP_TEST_SCREENSHOTS"); dir != "" {
					tab.Screenshot(filepath.Join(dir, strings.NewReplacer("/", "-", "?since=7d", "").Replace(view)+"-"+name+".png"), true)
				}
			})
		}
	}
}

// widest lists the elements that reach beyond the right edge.
const widest = `[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 8)
	.map((e) => e.tagName + '.' + e.getAttribute('class') + ' ' + Math.round(e.getBoundingClientRect().right)).join('; ')`
