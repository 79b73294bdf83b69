package browser_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// audit runs axe-core on the page as it is, and reports its serious and critical findings.
func audit(t *testing.T, tab *browser.Tab, axe string) {
	t.Helper()
	tab.Eval(axe + "; 0")
	var findings []struct {
		ID, Impact, Help string
		Nodes            []struct {
			HTML           string
			FailureSummary string
		}
	}
	raw := tab.Eval("axe.run().then((result) => JSON.parse(JSON.stringify(result.violations)))")
	if err := json.Unmarshal([]byte(raw), &findings); err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		report := t.Errorf
		if f.Impact != "serious" && f.Impact != "critical" {
			report = t.Logf
		}
		report("%s: %s (%s), %d times, such as %s\n%s", f.Impact, f.Help, f.ID, len(f.Nodes), f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
	}
}

// TestAccessibility checks each view, in both colour schemes and on a phone, with axe-core.
func TestAccessibility(t *testing.T) {
	dir := os.Getenv("LLMSUP_TEST_AXE")
	if dir == "" {
		browser.NotRun(t, "it needs axe-core (scripts/clients.sh --axe), and so npm and node 20 or newer")
	}
	axe, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	looks := map[string]browser.Look{"light": {}, "dark": {Width: 1280, Height: 800, Dark: true}, "phone": {Width: 360, Height: 740, Phone: true}}
	f := newFleetFixture(t)
	for view, text := range views {
		t.Run(view, func(t *testing.T) {
			eachLook(t, f, view, looks, func(name string, tab *browser.Tab) {
				tab.AwaitText(text)
				t.Log(name)
				audit(t, tab, string(axe))
			})
		})
	}
	t.Run("question and result", func(t *testing.T) {
		tab := open(t, f, "now", browser.Look{})
		tab.AwaitText("● live")
		tab.Click("header button")
		tab.Await("document.querySelector('dialog[open]')")
		audit(t, tab, string(axe))
		tab.Click("dialog button")
		tab.AwaitText("Drain all servers done")
		audit(t, tab, string(axe))
	})
	t.Run("sign in", func(t *testing.T) {
		locked := newFixture(t)
		locked.key = "k"
		tab := open(t, locked, "now", browser.Look{})
		tab.AwaitText("This llmsup asks for an API key")
		audit(t, tab, string(axe))
	})
}

// TestKeyboard reaches every control of each view with the Tab key, and leaves the page again: there is no trap, and the
// focus can always be seen.
func TestKeyboard(t *testing.T) {
	f := newFixture(t)
	f.calls = f.calls[:6]
	for view := range views {
		t.Run(view, func(t *testing.T) {
			tab := open(t, f, view, browser.Look{})
			tab.AwaitText("● live")
			tab.Await("!document.body.innerText.includes('Reading the ledger')")
			tab.Eval(`(() => {
				const controls = 'a[href], button:not(:disabled), input, select, textarea, summary, [tabindex="0"]';
				window.wanted = new Set([...document.querySelectorAll(controls)].filter((e) => e.checkVisibility() && e.tabIndex >= 0));
				window.hidden_ = [];
				document.addEventListener('focusin', (event) => {
					window.wanted.delete(event.target);
					const style = getComputedStyle(event.target);
					if (style.outlineStyle === 'none' || style.outlineWidth === '0px') window.hidden_.push(event.target.outerHTML.slice(0, 120));
				});
			})()`)
			for range 150 {
				tab.Press(kb.Tab)
				if tab.Eval("window.wanted.size === 0 && document.activeElement === document.body") == "true" {
					break
				}
			}
			if left := tab.Eval("[...window.wanted].map((e) => e.outerHTML.slice(0, 160)).join('\\n')"); left != `""` {
				t.Errorf("the Tab key does not reach: %s", left)
			}
			if hidden := tab.Eval("window.hidden_.join('\\n')"); hidden != `""` {
				t.Errorf("the focus cannot be seen on: %s", hidden)
			}
		})
	}
}

// TestSkipLink jumps over header and navigation, and a change of the view moves the focus to its content.
func TestSkipLink(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("● live")
	tab.Press(kb.Tab)
	if at := tab.Eval(focused); at != `"Skip to the content"` {
		t.Fatalf("the first Tab reaches %s", at)
	}
	tab.Press(kb.Enter)
	tab.Await("document.activeElement.id === 'main'")
	tab.Click("nav a[href='/ui/money']")
	tab.AwaitText("Why calls left local")
	tab.Await("document.activeElement.id === 'main' && document.title.startsWith('Money')")
	tab.Eval("history.back()")
	tab.AwaitText("In flight (5)")
	if at := tab.Eval("location.pathname"); at != `"/ui/now"` {
		t.Errorf("Back leads to %s", at)
	}
}
