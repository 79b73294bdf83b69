package browser_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// focused is the text of the element that has the focus.
const focused = "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim()"

// tabTo presses Tab until the element with a text has the focus.
func tabTo(t *testing.T, tab *browser.Tab, text string) {
	t.Helper()
	for range 80 {
		tab.Press(kb.Tab)
		if tab.Eval(focused) == `"`+text+`"` {
			if visible := tab.Eval("getComputedStyle(document.activeElement).outlineStyle"); visible == `"none"` {
				t.Errorf("the focus on %q cannot be seen", text)
			}
			return
		}
	}
	t.Fatalf("the Tab key does not reach %q", text)
}

// TestDrainByKeyboard drains all servers without a pointer: the question says what it does to calls, the steps appear as
// they happen, and the result stays until it is dismissed.
func TestDrainByKeyboard(t *testing.T) {
	f := newFixture(t)
	f.steps["drain"] = `{"at":"2026-11-30T00:00:00Z","server":"qwen2.5-14b","step":"draining","text":"gets no new calls","calls":3,"queued":0}
{"at":"2026-11-30T00:00:01Z","server":"qwen2.5-14b","step":"stopped","text":"llama-server has ended","calls":0,"queued":0}
{"at":"2026-11-30T00:00:02Z","server":"","step":"drained","text":"all servers are drained","calls":0,"queued":0}
`
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("● live")
	tabTo(t, tab, "Drain…")
	tab.Press(kb.Enter)
	tab.Await("document.querySelector('dialog[open]')")
	question := tab.Eval("document.querySelector('dialog').innerText")
	for _, part := range []string{"Drain all servers?", "3 running calls can finish first", "New calls go to openrouter (about 0.0087", "Calls for whisper are rejected"} {
		if !strings.Contains(question, part) {
			t.Errorf("the question does not say %q: %s", part, question)
		}
	}
	tab.Press(kb.Escape)
	tab.Await("!document.querySelector('dialog')")
	if given := f.commands(); len(given) != 0 {
		t.Fatalf("Escape gave %v", given)
	}
	if at := tab.Eval(focused); at != `"Drain…"` {
		t.Errorf("after Escape the focus is at %s, not at the button that it came from", at)
	}
	tab.Press(kb.Enter)
	tab.Await("document.querySelector('dialog[open]')")
	if at := tab.Eval(focused); at != `"Drain"` {
		tabTo(t, tab, "Drain")
	}
	tab.Press(kb.Enter)
	tab.AwaitText("all servers are drained")
	tab.AwaitText("llama-server has ended")
	if given := f.commands(); len(given) != 1 || given[0] != `drain {"yes":true}` {
		t.Errorf("commands: %v", given)
	}
	tabTo(t, tab, "Dismiss: Drain all servers")
	tab.Press(kb.Enter)
	tab.Await("!document.body.innerText.includes('all servers are drained')")
}

// TestReadOnly gives no command: the page says why at once, and again at the button.
func TestReadOnly(t *testing.T) {
	const why = "Commands need an operator key; crawler is not one (operator: true in llmsup.yaml)."
	f := newFixture(t)
	f.set(map[string]any{"viewer": map[string]any{"key": "crawler", "operator": false, "keys": true, "commands": false, "why": why}})
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("Read only: " + why)
	tab.Click("header button[aria-disabled=true]")
	tab.AwaitText("Drain all servers failed")
	if given := f.commands(); len(given) != 0 {
		t.Errorf("commands: %v", given)
	}
}

// TestSignIn signs in by keyboard: a wrong key is refused in words, the right one opens the view that was asked for, and
// the key is nowhere in the browser afterwards.
func TestSignIn(t *testing.T) {
	f := newFixture(t)
	f.key = "sk-llmsup-right"
	f.set(map[string]any{"viewer": map[string]any{"key": "ops", "operator": true, "keys": true, "commands": true, "why": ""}})
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("This llmsup asks for an API key")
	if problems := tab.Problems(); len(problems) != 0 {
		t.Errorf("before a key was tried: %q", problems)
	}
	tab.Allow("401 (Unauthorized)") // the wrong key
	tab.Await("document.activeElement.id === 'key'")
	for _, key := range []string{"sk-llmsup-wrong", "sk-llmsup-right"} {
		for _, character := range key {
			tab.Press(string(character))
		}
		tab.Press(kb.Enter)
		if key == "sk-llmsup-wrong" {
			tab.AwaitText("llmsup does not know this key")
			tab.Await("document.activeElement.id === 'key'")
		}
	}
	tab.AwaitText("In flight (5)")
	tab.AwaitText("key ops")
	if kept := tab.Eval("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML.includes('sk-llmsup')])"); strings.Contains(kept, "sk-llmsup") || !strings.HasSuffix(kept, `false]"`) {
		t.Errorf("the browser keeps the key: %s", kept)
	}
	tab.Click("header .viewer button")
	tab.AwaitText("This llmsup asks for an API key")
	if text := tab.Text(); strings.Contains(text, "qwen2.5-14b") {
		t.Errorf("after signing out the page still shows:\n%s", text)
	}
}

// TestModelCommands offers to load and unload only what the daemon would: models that are loaded on demand.
func TestModelCommands(t *testing.T) {
	tab := open(t, newFixture(t), "models", browser.Look{})
	tab.AwaitText("coder-32b")
	const labels = `[...document.querySelectorAll('.buttons button')].map((b) => b.getAttribute('aria-label')).join(', ')`
	if got, want := tab.Eval(labels), `"Unload whisper, Pin whisper, Load coder-32b, Pin coder-32b"`; got != want {
		t.Errorf("commands %s, want %s", got, want)
	}
}
