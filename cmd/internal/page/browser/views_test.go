package browser_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// views are all views, each with a text that appears once it is complete.
var views = map[string]string{
	"now": "In flight (5)", "calls?since=7d": "100 calls, and more", "calls/900000": "no answer within 60 s", "money": "Why calls left local", "models": "this is a text file",
	"fleet": "silent for", "logs": "offloaded 33/33 layers", "try": "local/qwen2.5-14b is free on the GPU",
}

// TestViews shows each view on a phone and on a large screen, in both colour schemes: it renders, nothing is wider than
// the screen, and (as in all tests here) it logs no error and requests nothing from elsewhere.
func TestViews(t *testing.T) {
	looks := map[string]browser.Look{
		"phone":  {Width: 360, Height: 740, Phone: true},
		"laptop": {Width: 1280, Height: 800},
		"dark":   {Width: 1280, Height: 800, Dark: true},
		"tablet": {Width: 768, Height: 1024},
		"large":  {Width: 1920, Height: 1080},
	}
	f := newFleetFixture(t)
	for view, text := range views {
		t.Run(view, func(t *testing.T) {
			eachLook(t, f, view, looks, func(name string, tab *browser.Tab) {
				tab.AwaitText(text)
				checkWidth(t, tab, name)
				if dir := os.Getenv("LLMSUP_TEST_SCREENSHOTS"); dir != "" {
					tab.Screenshot(filepath.Join(dir, strings.NewReplacer("/", "-", "?since=7d", "").Replace(view)+"-"+name+".png"), true)
				}
			})
		})
	}
}

// checkWidth checks that nothing on the page is wider than the screen.
func checkWidth(t *testing.T, tab *browser.Tab, look string) {
	t.Helper()
	if wide := tab.Eval("document.documentElement.scrollWidth > innerWidth"); wide != "false" {
		t.Errorf("%s: it scrolls sideways: %s", look, tab.Eval(widest))
	}
}

// TestNoFleet: without a fleet the page shows nothing of one; what Now says of one follows its state.
func TestNoFleet(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("In flight (5)")
	if text := tab.Text(); strings.Contains(strings.ToLower(text), "fleet") {
		t.Errorf("the page has a fleet:\n%s", text)
	}
	fleet := invented(t, "fleet.json")
	f.set(map[string]any{"fleet": fleet})
	tab.AwaitText("Fleet: ▲ 2 boxes, gpu3 silent, gpu2 drained")
	fleet["joined"], fleet["problem"] = false, "the connection to NATS was lost"
	f.set(map[string]any{"fleet": fleet})
	tab.AwaitText("Fleet: ▲ alone, the connection to NATS was lost")
	fleet["joined"], fleet["problem"], fleet["absent"] = true, "", []any{}
	other := fleet["boxes"].([]any)[1].(map[string]any)
	other["drained"], other["no_keys"] = false, true
	f.set(map[string]any{"fleet": fleet})
	tab.AwaitText("Fleet: ● 2 boxes, gpu2 without keys")
	other["no_keys"] = false
	f.set(map[string]any{"fleet": fleet})
	tab.AwaitText("Fleet: ● 2 boxes")
	tab.Click("a[href='/ui/fleet']")
	tab.AwaitText("The sums lack gpu3: it has been silent for 1m")
	fleet["foreign"] = []any{"gpu7"}
	f.set(map[string]any{"fleet": fleet})
	tab.AwaitText("Another key: gpu7. Every box")
	f.set(map[string]any{"fleet": nil})
	tab.AwaitText("This box is in no fleet.")
}

// TestFleetBudget: the page says who has what is not spent of a limit of all boxes.
func TestFleetBudget(t *testing.T) {
	f := newFleetFixture(t)
	f.set(map[string]any{"budgets": []any{map[string]any{
		"key": "", "period": "daily", "limit_usd": 10, "spent_usd": 2, "reserved_usd": 0, "ends": "2026-12-01T00:00:00Z",
		"fleet": map[string]any{
			"granted_usd": 0.5, "left_usd": 6, "problem": "there is no connection to NATS",
			"gone": []any{map[string]any{"box": "gpu3", "amount_usd": 1.25, "since": "2026-11-30T01:58:00Z"}},
		},
	}}})
	tab := open(t, f, "money", browser.Look{})
	tab.AwaitText("6.00 USD is not granted to a box yet, and this box has credit for 0.50 USD; gpu3, which is not in the fleet")
	tab.AwaitText(", holds 1.25 USD until it is back or the limit is renewed; no more credit can be had: there is no connection to NATS.")
}

// TestLongNames gives every server, model, key and reason a long name: the page is still no wider than the screen, and
// what does not fit can be scrolled to.
func TestLongNames(t *testing.T) {
	const long = "-a-name-that-goes-on-and-on-480b-a35b-instruct-q4_k_m"
	f := newFleetFixture(t)
	for i := range f.calls {
		f.calls[i] = attacked(f.calls[i], long).(map[string]any)
	}
	f.sections = attacked(f.sections, long).(map[string]any)
	for _, view := range []string{"now", "calls?since=7d", "calls/900000", "money", "models", "fleet", "try"} {
		t.Run(view, func(t *testing.T) {
			eachLook(t, f, view, widths(768, 1024, 1280), func(name string, tab *browser.Tab) {
				tab.AwaitText(long)
				checkWidth(t, tab, name)
			})
		})
	}
}

// TestLargeAmounts: an amount of eight digits and its unit stay in one line, within the screen.
func TestLargeAmounts(t *testing.T) {
	f := newFixture(t)
	today := f.section("today").(map[string]any)
	today["saved_usd"], today["paid_usd"] = 12345678.123456, 87654321.123456
	f.set(map[string]any{"today": today})
	eachLook(t, f, "now", widths(360, 768, 1024, 1280), func(name string, tab *browser.Tab) {
		tab.AwaitText("12,345,678.12")
		if broken := tab.Eval("[...document.querySelectorAll('.big')].filter((e) => e.getBoundingClientRect().height > 30 || e.scrollWidth > e.clientWidth).map((e) => e.textContent).join('; ')"); broken != `""` {
			t.Errorf("%s: cut or broken: %s", name, broken)
		}
		checkWidth(t, tab, name)
		if dir := os.Getenv("LLMSUP_TEST_SCREENSHOTS"); dir != "" {
			tab.Screenshot(filepath.Join(dir, "amounts-"+name+".png"), false)
		}
	})
}

// widths returns looks by their width.
func widths(all ...int) map[string]browser.Look {
	looks := map[string]browser.Look{}
	for _, width := range all {
		looks[fmt.Sprint(width)] = browser.Look{Width: width, Height: 800}
	}
	return looks
}

// widest lists the elements that reach beyond the right edge.
const widest = `[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 8)
	.map((e) => e.tagName + '.' + e.getAttribute('class') + ' ' + Math.round(e.getBoundingClientRect().right)).join('; ')`
