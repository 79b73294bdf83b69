package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/page/browser"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/demo/demotest"
	"github.com/llmsup/llmsup/router/ledger/ledgertest"
)

// The tests here watch the real daemon on the page, in Chromium, while a real llama-server answers. Those of
// cmd/internal/page/browser show the page in all other states.

// serverRow is the text of a server's row of Now.
func serverRow(name string) string {
	return fmt.Sprintf("[...document.querySelectorAll('table.servers tbody tr')].find((row) => row.textContent.startsWith('%s'))?.innerText ?? ''", name)
}

// TestPageWatchesCrashAndDrain: a user who only watches sees a call, the death of its llama-server, the replacement, and a
// drain that was begun on the page.
func TestPageWatchesCrashAndDrain(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  slow: {model: %s, ctx_size: 32768, args: [-np, "2"]}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/slow: {primary: slow, fallback: openrouter, resume: true}
`, demotest.Slow(t), c.URL))
	path, loads := gatedLlamaServer(t)
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--llama-server", path)
	tab := b.Open(t, in.url+"/", browser.Look{})
	tab.AwaitText("● live")
	if at := tab.Eval("location.pathname"); at != `"/ui/"` {
		t.Errorf("a browser that asks for / is at %s", at)
	}
	before := in.awaitReady()
	tab.Await(serverRow("slow") + ".includes('ready')")

	begun := make(chan struct{}, 1)
	ended := make(chan struct{})
	go func() { defer close(ended); in.longStream(3000, begun) }()
	<-begun
	tab.Await(serverRow("slow") + ".includes('1/2')")
	tab.AwaitText("In flight (1)")
	tab.Await("document.querySelector('table.inflight td.c-backend')?.textContent === 'slow'")
	tab.Await("Number(document.querySelector('table.inflight td.c-tokens')?.textContent) > 3")
	loads(false) // until the page has shown that the server is not ready
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tab.Await("['restarting', 'starting', 'loading'].includes(document.querySelector('table.servers td.c-state').textContent.split(' ')[1])")
	loads(true)
	in.await("ready again", func(s control.Server) bool { return s.State == "ready" && s.PID != before.PID })
	tab.Await(serverRow("slow") + ".includes('ready')")
	<-ended
	tab.AwaitText("In flight (0)")
	tab.Click("nav a[href='/ui/calls']")
	tab.Await("document.querySelector('table.calls tbody tr')?.innerText.includes('resumed')")
	tab.Click("table.calls tbody a")
	tab.Await("document.querySelectorAll('table.attempts tbody tr').length === 2")
	tab.AwaitText("openrouter")
	tab.Click("nav a[href='/ui/now']")
	tab.AwaitText("In flight (0)")

	tab.Click("header button")
	tab.Await("document.querySelector('dialog[open]')?.innerText.includes('New calls go to openrouter')")
	tab.Click("dialog button")
	tab.AwaitText("Drain all servers done")
	tab.Await(serverRow("slow") + ".includes('drained')")
	tab.AwaitText("no call goes to a local server")
	if r := in.chat("local/slow", ""); r.backend() != "openrouter" || r.reason() != "drained" {
		t.Errorf("during the drain a call went to %s, because of %q", r.backend(), r.reason())
	}
	tab.Await("[...document.querySelectorAll('.fact')].some((fact) => fact.innerText.includes('to the cloud') && !fact.innerText.includes(' 0 to the cloud'))")
	tab.Click("header button.primary")
	tab.AwaitText("Resume all servers done")
	tab.Await(serverRow("slow") + ".includes('ready')")
	if !strings.Contains(in.logged(), `"command":"drain"`) {
		t.Error("the log has no line with the command")
	}
}

// TestPageViews shows each view of the real daemon: a chat in Try, its log, its model and its call.
func TestPageViews(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	in := launch(t, nil, "--demo")
	in.awaitReady()
	tab := b.Open(t, in.url+"/ui/try", browser.Look{})
	tab.AwaitText("local is free.")
	tab.Click("form button[type=submit]")
	tab.AwaitText("answered by demo")
	tab.Await("document.querySelector('.answer').innerText.includes('3 4 5 6 7')")
	tab.AwaitText("0.00 USD")
	tab.Click("nav a[href='/ui/models']")
	tab.Await("document.querySelector('table.models')?.innerText.includes('demo')")
	folder := filepath.Join(in.state, "models")
	tab.Await("document.querySelector('.empty')?.innerText.includes('" + folder + "')")
	spare, err := demo.Ensure(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(spare, filepath.Join(folder, "spare.gguf")); err != nil {
		t.Fatal(err)
	}
	tab.Eval("[...document.querySelectorAll('main button')].find((b) => b.textContent === 'Read again').click()")
	tab.Await("document.querySelector('table.files tbody')?.children.length === 1 && document.querySelector('table.files tbody tr').innerText.startsWith('spare')")
	tab.Await("document.querySelector('table.files td.c-need').innerText.includes('GiB')")
	tab.Click("nav a[href='/ui/logs']")
	for _, source := range []string{"llmsup", "demo"} {
		tab.Await("[...document.querySelectorAll('.log .source')].some((source) => source.textContent === '" + source + "')")
	}
	tab.Click("nav a[href='/ui/now']")
	tab.AwaitText("Local answers today")
	tab.Await("document.querySelector('.answers').innerText.includes('1 call')")
}

// keptPort returns a free port that stays free while nothing listens on it: below those that the kernel chooses for
// connections.
func keptPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 12_000 + rand.IntN(18_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// TestPageSurvivesRestart keeps a page open while llmsup stops and starts again at the same address: it says that it has
// lost the daemon, and shows the new one without being loaded again.
func TestPageSurvivesRestart(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	dir := shortDir(t)
	in := launchIn(t, dir, nil, "--demo", "--listen", fmt.Sprintf("127.0.0.1:%d", keptPort(t)))
	in.awaitReady()
	tab := b.Open(t, in.url+"/ui/now", browser.Look{})
	tab.Allow("net::ERR_") // the failed attempts
	tab.AwaitText("● live")
	tab.Eval("window.sameDocument = true")
	in.stop()
	tab.AwaitText("reconnecting for")
	tab.Await("document.querySelector('.columns').classList.contains('stale')")
	again := launchIn(t, dir, nil, "--demo", "--listen", strings.TrimPrefix(in.url, "http://"))
	again.awaitReady()
	tab.AwaitText("● live")
	tab.Await(serverRow("demo") + ".includes('ready')")
	tab.Await("!document.querySelector('.columns').classList.contains('stale')")
	if same := tab.Eval("window.sameDocument === true"); same != "true" {
		t.Error("the page was loaded again")
	}
}

// TestPageSignIn: with keys, a browser without a session learns nothing; an operator's key may do all, another one sees
// its own.
func TestPageSignIn(t *testing.T) {
	t.Parallel()
	b := browser.Start(t)
	operatorSecret, ops := newKeyEntry(t, "ops", ", operator: true")
	clientSecret, app := newKeyEntry(t, "app", "")
	file := newTestConfig(t, "keys:\n"+ops+app)
	in := launch(t, nil, "--demo", "--config", file.path)
	in.awaitReady()
	for name, c := range map[string]struct{ key, shows string }{"operator": {operatorSecret, "key ops"}, "client": {clientSecret, "Read only"}} {
		t.Run(name, func(t *testing.T) {
			tab := b.Open(t, in.url+"/ui/", browser.Look{})
			tab.AwaitText("This llmsup asks for an API key")
			if text := tab.Text(); strings.Contains(text, "demo") {
				t.Errorf("without a session the page shows:\n%s", text)
			}
			tab.Eval(fmt.Sprintf("(() => { document.getElementById('key').value = '%s'; document.querySelector('form').requestSubmit(); })()", c.key))
			tab.AwaitText(c.shows)
			tab.Await(serverRow("demo") + ".includes('ready')")
			if kept := tab.Eval("document.cookie + JSON.stringify({...localStorage}) + location.href"); strings.Contains(kept, c.key) || strings.Contains(kept, "llmsup_session") {
				t.Errorf("scripts can read %s", kept)
			}
		})
	}
}

// TestPageOfManyCalls opens Calls and Money on a ledger of many calls, of a million if
// LLMSUP_TEST_LONG is set, and logs how long that takes.
func TestPageOfManyCalls(t *testing.T) {
	t.Parallel()
	calls := 10_000 // SQLite in Go is slow with the race detector
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		calls = 1_000_000
	}
	b := browser.Start(t)
	dir := shortDir(t)
	in := launchIn(t, dir, nil, "--demo")
	in.awaitReady()
	in.chat("local", "") // creates the database
	in.stop()
	ledgertest.Fill(t, dir, calls, time.Now())
	in = launchIn(t, dir, nil, "--demo")
	in.awaitReady()
	if !eventually(testTimeout, func() bool { code, _ := in.run("usage"); return code == 0 }) { // the page would show an error while the ledger is opened
		t.Fatal("the ledger is not open")
	}
	tab := b.Open(t, in.url+"/ui/now", browser.Look{})
	tab.AwaitText("● live")
	for view, shown := range map[string]string{"calls": "document.querySelectorAll('table.calls tbody tr').length === 100", "money": "document.querySelectorAll('table.groups').length === 3"} {
		// From the click to the frame with the rows.
		took := tab.Eval(fmt.Sprintf(`new Promise((resolve) => {
			const start = performance.now();
			document.querySelector("nav a[href='/ui/%s']").click();
			const look = () => (%s ? resolve(Math.round(performance.now() - start)) : requestAnimationFrame(look));
			look();
		})`, view, shown))
		t.Logf("%s opens in %s ms on %d calls", view, took, calls)
	}
	tab.Click("nav a[href='/ui/calls']")
	tab.Await("document.querySelectorAll('table.calls tbody tr').length === 100")
	tab.Click("table.calls tbody a")
	tab.AwaitText("Answered by")
}
