package browser_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// inflightOf is a section with n calls in flight, whose ids begin with prefix.
func inflightOf(n int, prefix string, tokens int) map[string]any {
	var calls []map[string]any
	for i := range min(n, 500) {
		calls = append(calls, map[string]any{
			"id": fmt.Sprint(prefix, i), "started": "2026-11-30T00:00:00Z", "path": "/v1/chat/completions", "model": "local/qwen2.5-14b", "key": "crawler", "backend": "qwen2.5-14b",
			"reason": "", "phase": "answering", "place": 0, "tokens": tokens + i, "first_answer": "2026-11-30T00:00:00Z", "cost_usd": 0,
		})
	}
	return map[string]any{"total": n, "calls": calls}
}

// TestReconnect breaks the stream: the page says so, its values turn grey, and it shows the state of the daemon that
// answers again.
func TestReconnect(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.Allow("net::ERR_") // the failed attempts
	tab.AwaitText("● live")
	f.setDown(true)
	tab.AwaitText("reconnecting for")
	tab.Await("document.querySelector('.columns').classList.contains('stale')")
	if text := tab.Text(); !strings.Contains(text, "qwen2.5-14b") {
		t.Errorf("the old values are gone:\n%s", text)
	}
	box := f.section("box").(map[string]any)
	box["version"] = "1.5.0"
	f.restart("9c01")
	f.set(map[string]any{"box": box})
	tab.AwaitText("● live")
	tab.AwaitText("1.5.0")
	tab.Await("!document.querySelector('.columns').classList.contains('stale')")
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := f.lastIDs[len(f.lastIDs)-1]; !strings.HasPrefix(last, "7f3a-") {
		t.Errorf("the new stream began with Last-Event-ID %q, not that of the last event", last)
	}
}

// TestHiddenTab gives the connection of a tab back that has been hidden for a minute, and shows the present state as soon
// as it is visible again.
func TestHiddenTab(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("● live")
	tab.Eval(`(() => {
		const real = window.setTimeout;
		window.setTimeout = (f, ms) => real(f, ms === 60000 ? 0 : ms); // the minute
		window.show = (state) => {
			Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
			document.dispatchEvent(new Event('visibilitychange'));
		};
		window.show('hidden');
	})()`)
	deadline := time.Now().Add(browser.Timeout)
	for f.streams() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the hidden page keeps its stream")
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.set(map[string]any{"inflight": inflightOf(7, "a", 0)})
	tab.Eval("window.show('visible')")
	tab.AwaitText("In flight (7)")
	if n := f.streams(); n != 1 {
		t.Errorf("%d streams", n)
	}
}

// TestThousandCalls keeps the table of a thousand calls usable: each update reaches it, and while the pointer is in it
// no row moves.
func TestThousandCalls(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("In flight (5)")
	f.set(map[string]any{"inflight": inflightOf(1000, "a", 0)})
	tab.AwaitText("In flight (1,000)")
	tab.AwaitText("The oldest 500 of 1,000 calls.")
	tab.Await("document.querySelectorAll('table.inflight tbody tr').length === 500")
	tab.Eval(`(() => {
		window.frames_ = []; let last = performance.now();
		const next = (now) => { window.frames_.push(now - last); last = now; requestAnimationFrame(next); };
		requestAnimationFrame(next);
		window.row = document.querySelectorAll('table.inflight tbody tr')[20];
		document.querySelector('[aria-label="Calls in flight"]').dispatchEvent(new PointerEvent('pointerenter'));
	})()`)
	place := tab.Eval("Math.round(window.row.getBoundingClientRect().top + scrollY)")
	for i := range 10 {
		// All calls but the first ten have ended, and new ones have begun.
		next := inflightOf(1000, "a", 100*i)
		calls := next["calls"].([]map[string]any)
		next["calls"] = slices.Concat(calls[:10], inflightOf(490, "b", i)["calls"].([]map[string]any))
		f.set(map[string]any{"inflight": next})
		tab.Await(fmt.Sprintf("document.querySelector('table.inflight td.c-tokens').textContent === '%d'", 100*i))
	}
	if now := tab.Eval("Math.round(window.row.getBoundingClientRect().top + scrollY)"); now != place {
		t.Errorf("the row has moved from %s to %s", place, now)
	}
	if state := tab.Eval("window.row.isConnected && window.row.textContent.includes('ended')"); state != "true" {
		t.Error("the row of a call that has ended is gone while the pointer is in the table")
	}
	if rows := tab.Eval("document.querySelectorAll('table.inflight tbody tr').length"); rows != "500" {
		t.Errorf("%s rows", rows)
	}
	t.Logf("frames with 500 rows: %s ms at most", tab.Eval("Math.round(Math.max(...window.frames_))"))
	tab.Eval(`document.querySelector('[aria-label="Calls in flight"]').dispatchEvent(new PointerEvent('pointerleave'))`)
	tab.Await("!window.row.isConnected")
}

// TestXSS puts HTML into every text of every section: it is shown as text.
func TestXSS(t *testing.T) {
	const attack = `<img src=x onerror="document.title='attacked'"><script>document.title='attacked'</script>`
	f := newFixture(t)
	for i := range f.calls {
		f.calls[i] = attacked(f.calls[i], attack).(map[string]any)
	}
	f.sections = attacked(f.sections, attack).(map[string]any)
	for _, view := range []string{"now", "calls", "calls/" + "900000", "money", "models", "logs", "try"} {
		t.Run(view, func(t *testing.T) {
			tab := open(t, f, view, browser.Look{})
			tab.AwaitText("onerror")
			if view == "logs" {
				f.log(map[string]any{"server": attack, "at": "2026-11-30T00:00:00Z", "level": "info", "text": attack})
			}
			if found := tab.Eval("document.querySelectorAll('img, main script').length"); found != "0" {
				t.Errorf("%s elements of the attack are in the page", found)
			}
			if title := tab.Eval("document.title"); strings.Contains(title, `"attacked"`) {
				t.Error("a script of the attack ran")
			}
		})
	}
}

// attacked adds a text to all strings but times, ids and the names that the page branches on.
func attacked(value any, attack string) any {
	switch v := value.(type) {
	case map[string]any:
		for name := range v {
			switch name {
			case "id", "uuid", "kind", "period", "condition", "load":
			default:
				v[name] = attacked(v[name], attack)
			}
		}
	case []any:
		for i := range v {
			v[i] = attacked(v[i], attack)
		}
	case string:
		return v + attack
	}
	return value
}
