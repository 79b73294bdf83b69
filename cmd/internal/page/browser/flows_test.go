package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// choose selects a value of the select with a label, as a user does.
func choose(tab *browser.Tab, label, value string) {
	tab.Eval(fmt.Sprintf(`(() => {
		const field = [...document.querySelectorAll('label.field')].find((l) => l.firstChild.textContent === '%s').querySelector('select');
		field.value = '%s';
		field.dispatchEvent(new Event('change', {bubbles: true}));
	})()`, label, value))
}

// TestCallsFilters: filters are in the address, which shows the same rows when it is opened again; sorting, older calls
// and the export belong to them.
func TestCallsFilters(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "calls", browser.Look{})
	tab.AwaitText("100 calls, and more")
	choose(tab, "Key", "crawler")
	tab.AwaitText("80 calls, newest first")
	choose(tab, "Why not local", "saturated")
	tab.AwaitText("No call matches these filters")
	tab.Await("location.search === '?key=crawler&reason=saturated'")
	choose(tab, "Key", "batch")
	tab.AwaitText("27 calls")
	tab.Eval("(() => { window.before = true; location.reload(); })()")
	tab.Await("window.before === undefined")
	tab.AwaitText("27 calls")
	if rows := tab.Eval("[...document.querySelectorAll('table.calls tbody tr')].every((row) => row.innerText.includes('batch') && row.innerText.includes('saturated'))"); rows != "true" {
		t.Error("rows of other calls")
	}
	export := tab.Eval("document.querySelector('a[download]').getAttribute('href')")
	for _, part := range []string{"/ui/api/calls.csv?", "since=2", "until=2", "key=batch", "reason=saturated"} {
		if !strings.Contains(export, part) {
			t.Errorf("the export %s lacks %s", export, part)
		}
	}
	tab.Eval("[...document.querySelectorAll('button.sort')].find((b) => b.textContent.startsWith('Duration')).click()")
	tab.Await("document.querySelector('th[aria-sort=descending]')?.textContent.startsWith('Duration')")
	if first := tab.Eval("document.querySelector('table.calls tbody td.c-ms').textContent.startsWith('5.2')"); first != "true" {
		t.Errorf("the longest call is not first: %s", tab.Eval("document.querySelector('table.calls tbody tr').innerText"))
	}
	tab.Click("table.calls tbody a")
	tab.AwaitText("no answer within 60 s")
	tab.Eval("history.back()")
	tab.AwaitText("27 calls")
	tab.Click(".filters button.quiet")
	tab.AwaitText("100 calls, and more")
	tab.Eval("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Show older calls').click()")
	tab.AwaitText("200 calls, and more")
}

// TestTryComparesTwo sends one message to a local and a paid route: the price is beside the button before, and the
// figures and the raw request are there afterwards.
func TestTryComparesTwo(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "try", browser.Look{})
	tab.AwaitText("is free on the GPU")
	tab.Click("input[type=checkbox]")
	tab.AwaitText("gpt-4o costs money: 2.50 USD for a million prompt tokens, 10.00 USD for a million generated.")
	tab.Await("document.querySelector('button[type=submit]').textContent === 'Send (paid)'")
	tab.Click("button[type=submit]")
	tab.Await("[...document.querySelectorAll('.answer')].filter((a) => a.innerText.includes('10 11 12')).length === 2")
	text := tab.Text()
	for _, part := range []string{"answered by qwen2.5-14b", "answered by openrouter", "9 → 12", "0.0000123 USD", "Tokens per second"} {
		if !strings.Contains(text, part) {
			t.Errorf("the page lacks %q:\n%s", part, text)
		}
	}
	tab.Click("details.inline summary")
	tab.AwaitText(`"max_tokens": 64`)
	tab.Eval("document.querySelectorAll('details.inline summary')[1].click()")
	tab.AwaitText("x-llmsup-backend: qwen2.5-14b")
}

// TestTryStops ends a stream that would not end by itself.
func TestTryStops(t *testing.T) {
	f := newFixture(t)
	f.stall = true
	tab := open(t, f, "try", browser.Look{})
	tab.AwaitText("is free on the GPU")
	tab.Click("button[type=submit]")
	tab.AwaitText("10 11 12")
	tab.Eval("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Stop').click()")
	tab.AwaitText("You stopped it.")
	tab.Await("document.querySelector('button[type=submit]').textContent === 'Send'")
}

// TestLogs follows lines, pauses them, and filters by text, source and level.
func TestLogs(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "logs", browser.Look{})
	tab.AwaitText("offloaded 33/33 layers")
	line := func(n int) map[string]any {
		return map[string]any{"server": "whisper", "at": fmt.Sprintf("2126-11-30T00:00:%02dZ", n), "level": "info", "text": fmt.Sprintf("line %d of whisper", n), "lost": 0}
	}
	f.log(line(1))
	tab.AwaitText("line 1 of whisper")
	tab.Eval("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Pause').click()")
	f.log(line(2))
	tab.AwaitText("paused; 1 newer")
	if text := tab.Text(); strings.Contains(text, "line 2") {
		t.Error("a line appeared during the pause")
	}
	tab.Eval("[...document.querySelectorAll('main button')].find((b) => b.textContent === 'Resume').click()")
	tab.AwaitText("line 2 of whisper")
	choose(tab, "Level", "error")
	tab.Await("document.querySelectorAll('.log-line').length === 1")
	choose(tab, "Level", "")
	choose(tab, "Source", "llmsup")
	tab.Await("document.querySelectorAll('.log-line').length === 3")
	tab.Eval("(() => { const s = document.querySelector('input[type=search]'); s.value = 'REFUSED'; s.dispatchEvent(new Event('input')); })()")
	tab.Await("document.querySelectorAll('.log-line').length === 1")
	f.set(map[string]any{"viewer": map[string]any{"key": "crawler", "operator": false, "keys": true, "commands": false, "why": "no"}})
	tab.AwaitText("Logs are for operators.")
}

// TestReasons: what llmsup knows to be incomplete or not set up is shown as that, and times are those of the browser's zone.
func TestReasons(t *testing.T) {
	f := newFixture(t)
	today := f.section("today").(map[string]any)
	today["unknown_saved"] = 3
	upstreams := append(f.section("upstreams").([]any), map[string]any{"name": "keyless", "healthy": false, "missing_key": true, "reason": "set OPENROUTER_API_KEY", "since": "2026-11-30T00:00:00Z"})
	servers := f.section("servers").([]any)
	drained := servers[0].(map[string]any)
	drained["state"], drained["reason"] = "drained", "taken out of use by an operator at 1999-01-01 00:00:00, until llmsup resume"
	drained["drain"] = map[string]any{"since": "2026-11-30T02:01:58Z", "until": nil, "keep_server": false}
	models := f.section("models").([]any)
	models[0].(map[string]any)["reason"] = drained["reason"]
	f.set(map[string]any{"today": today, "upstreams": upstreams, "servers": servers, "models": models})
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("without 3 calls of unknown price")
	tab.AwaitText("no call goes there without an API key: set OPENROUTER_API_KEY")
	if state := tab.Eval("document.querySelector('table.upstreams tbody tr:last-child .state').className + document.querySelector('table.upstreams tbody tr:last-child .state').textContent"); state != `"state none○ not configured"` {
		t.Errorf("an upstream without a key: %s", state)
	}
	for _, view := range []string{"now", "models"} {
		tab.Click("nav a[href='/ui/" + view + "']")
		tab.Await("document.title.startsWith('" + strings.ToUpper(view[:1]) + "')")
		tab.AwaitText("taken out of use by an operator at ")
		if text := tab.Text(); strings.Contains(text, "1999") || !strings.Contains(text, "until Resume") {
			t.Errorf("%s: the drain has the times of the daemon's clock:\n%s", view, text)
		}
	}
}

// TestNoSuchPage: an unknown address says so.
func TestNoSuchPage(t *testing.T) {
	f := newFixture(t)
	for _, address := range []string{"nothing", "now/more", "call", "toString", "missing"} {
		t.Run(address, func(t *testing.T) {
			tab := open(t, f, address, browser.Look{})
			tab.AwaitText("This page does not exist")
			tab.Click("main a")
			tab.AwaitText("In flight (5)")
		})
	}
}

// TestEmpty: a new box says what to do next, and shows what is unknown as unknown.
func TestEmpty(t *testing.T) {
	f := newFixture(t)
	f.calls = nil
	f.set(map[string]any{
		"today":   map[string]any{"since": "2026-11-30T00:00:00Z", "calls": 0, "local_calls": 0, "cloud_calls": 0, "paid_usd": nil, "saved_usd": nil, "calls_unknown_cost": 0},
		"servers": []any{}, "gpus": []any{}, "models": []any{}, "upstreams": []any{}, "budgets": []any{}, "inflight": map[string]any{"total": 0, "calls": []any{}},
	})
	for view, texts := range map[string][]string{
		"now":    {"llmsup runs no server.", "llmsup start --model MODEL.gguf", "No GPU can be read here.", "No call is running now.", "curl http", "no limit", "unknown"},
		"calls":  {"No calls in the last 24 hours.", "curl http"},
		"money":  {"There is no limit on spending.", "budget: {daily: 5}"},
		"models": {"llmsup has no model.", "llmsup start --model MODEL.gguf"},
	} {
		t.Run(view, func(t *testing.T) {
			tab := open(t, f, view, browser.Look{})
			for _, text := range texts {
				tab.AwaitText(text)
			}
		})
	}
}

// TestUnknownValues shows each value that a driver or a server does not report as unknown, and none as 0 or NaN.
func TestUnknownValues(t *testing.T) {
	f := newFixture(t)
	gpu := f.section("gpus").([]any)[0].(map[string]any)
	for _, name := range []string{"memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "utilization_percent", "temperature_celsius", "power_watts", "power_limit_watts", "memory_parts", "processes"} {
		gpu[name] = nil
	}
	f.set(map[string]any{"gpus": []any{gpu}})
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("VRAM unknown of unknown")
	for _, view := range []string{"now", "models"} {
		tab.Click("nav a[href='/ui/" + view + "']")
		tab.Await("document.title.startsWith('" + strings.ToUpper(view[:1]) + "')")
		if text := tab.Text(); strings.Contains(text, "NaN") || strings.Contains(text, "undefined") || strings.Contains(text, "null") || strings.Contains(text, "Infinity") {
			t.Errorf("%s shows a value that is none:\n%s", view, text)
		}
	}
}

// TestChart shows exact values with the arrow keys, and has its data as a table.
func TestChart(t *testing.T) {
	f := newFixture(t)
	tab := open(t, f, "now", browser.Look{})
	tab.AwaitText("Utilisation")
	tab.Eval("document.querySelector('[role=slider][aria-label=Utilisation]').focus()")
	for _, key := range []string{"Home", "ArrowRight"} {
		tab.Eval(fmt.Sprintf("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '%s', bubbles: true}))", key))
	}
	tab.Await("document.activeElement.getAttribute('aria-valuenow') === '1'")
	tab.Await(`/^\d\d:\d\d: \d+\s%$/.test(document.activeElement.getAttribute('aria-valuetext'))`)
	tab.Eval("document.querySelector('details.data summary').click()")
	tab.Await("document.querySelectorAll('details.data tbody tr').length === 360")
	tab.Await("[...document.querySelectorAll('details.data td')].filter((cell) => cell.textContent === 'unknown').length === 12")
}
