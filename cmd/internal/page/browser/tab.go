package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Look is how a tab shows pages.
type Look struct {
	Width, Height int  // CSS pixels; 0 = 1280 x 800
	Dark          bool // prefers-color-scheme: dark
	Phone         bool // touch, no pointer that hovers
}

// Tab is a page in Chromium.
type Tab struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // chromedp keeps the tab in it

	mu       sync.Mutex
	origins  []string // that the page may request
	problems []string
	allowed  []string
}

// Open opens an address in a new tab with its own cookies. At the end of the test, a console error, an exception, or a
// request to another origin than that of the address makes the test fail.
func (b *Browser) Open(t testing.TB, address string, look Look) *Tab {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	tab := &Tab{t: t, origins: []string{parsed.Scheme + "://" + parsed.Host}}
	ctx, stop := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(tab.listen))
	tab.ctx = ctx
	t.Cleanup(func() {
		stop()
		for _, problem := range tab.Problems() {
			t.Errorf("the page of %s: %s", address, problem)
		}
	})
	if err := chromedp.Do(ctx, chromedp.Func(prepare)); err != nil {
		t.Fatal(err)
	}
	tab.Show(address, look)
	return tab
}

// Show loads an address of the same origin with another look, in less time than a new tab takes.
func (tab *Tab) Show(address string, look Look) {
	tab.t.Helper()
	if look.Width == 0 {
		look.Width, look.Height = 1280, 800
	}
	if err := chromedp.Do(tab.ctx, chromedp.Func(look.apply), chromedp.Navigate(address)); err != nil {
		tab.t.Fatal(err)
	}
}

// prepare turns on the events that listen needs.
func prepare(ctx context.Context, target *chromedp.Target) error {
	return errors.Join(call(ctx, target, network.Enable, network.EnableParams{}), call(ctx, target, log.Enable, cdp.Empty{}))
}

// apply sets what the page sees of its screen. The language and the time zone are fixed, so that texts are the same on all
// machines.
func (look Look) apply(ctx context.Context, target *chromedp.Target) error {
	scheme := "light"
	if look.Dark {
		scheme = "dark"
	}
	return errors.Join(
		call(ctx, target, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: int64(look.Width), Height: int64(look.Height), DeviceScaleFactor: 1, Mobile: look.Phone}),
		call(ctx, target, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: look.Phone}),
		call(ctx, target, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "UTC"}),
		call(ctx, target, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-US"}),
		call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
	)
}

func call[P, R any](ctx context.Context, target *chromedp.Target, command cdp.Command[P, R], params P) error {
	_, err := cdp.Call(ctx, target, command, params)
	return err
}

// listen collects what the page must not do.
func (tab *Tab) listen(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !tab.mayRequest(e.Request.URL) {
			tab.add("it requested " + e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text = e.ExceptionDetails.Exception.Description
		}
		tab.add("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			var words []string
			for _, argument := range e.Args {
				words = append(words, string(argument.Value), argument.Description)
			}
			tab.add("console: " + strings.Join(words, " "))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tab.add(fmt.Sprintf("log: %s %s", e.Entry.Text, e.Entry.URL))
		}
	}
}

func (tab *Tab) mayRequest(address string) bool {
	parsed, err := url.Parse(address)
	if err != nil {
		return false
	}
	return parsed.Scheme == "data" || parsed.Scheme == "blob" || parsed.Scheme == "about" || slices.Contains(tab.origins, parsed.Scheme+"://"+parsed.Host)
}

func (tab *Tab) add(problem string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.problems = append(tab.problems, problem)
}

// Allow takes problems that contain a text as expected: a failed request is a console error too.
func (tab *Tab) Allow(text string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.allowed = append(tab.allowed, text)
}

// Problems are those so far, without the expected ones.
func (tab *Tab) Problems() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(tab.problems), func(problem string) bool {
		return slices.ContainsFunc(tab.allowed, func(text string) bool { return strings.Contains(problem, text) })
	})
}

// within runs an action of chromedp, within Timeout.
func within[T any](tab *Tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(tab.ctx, Timeout)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// Run runs actions of chromedp, one after the other.
func (tab *Tab) Run(actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	for _, action := range actions {
		if _, err := within(tab, action); err != nil {
			tab.t.Fatalf("%v; the page shows:\n%s", err, tab.Text())
		}
	}
}

// Eval returns the value of a JavaScript expression as JSON; it waits for a promise.
func (tab *Tab) Eval(expression string) string {
	tab.t.Helper()
	value, err := within(tab, chromedp.Evaluate[any](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		tab.t.Fatal(err)
	}
	return string(raw)
}

// Text returns the text of the page as a user sees it, with plain spaces between numbers and units.
func (tab *Tab) Text() string {
	tab.t.Helper()
	text, err := within(tab, chromedp.Evaluate[string](pageText))
	if err != nil {
		tab.t.Fatal(err)
	}
	return text
}

// Await waits until a JavaScript expression is true. chromedp's own Poll compiles it in the page, which the page's
// Content-Security-Policy forbids.
func (tab *Tab) Await(expression string) {
	tab.t.Helper()
	for deadline := time.Now().Add(Timeout); ; time.Sleep(20 * time.Millisecond) {
		ok, err := within(tab, chromedp.Evaluate[bool]("Boolean("+expression+")")) // it may fail while the page loads
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) || tab.ctx.Err() != nil {
			tab.t.Fatalf("not true within %s: %s (%v); the page shows:\n%s", Timeout, expression, err, tab.Text())
		}
	}
}

// AwaitText waits until the page shows a text.
func (tab *Tab) AwaitText(text string) {
	tab.t.Helper()
	quoted, _ := json.Marshal(text)
	tab.Await(pageText + ".includes(" + string(quoted) + ")")
}

const pageText = "(document.body?.innerText ?? '').replaceAll('\u00a0', ' ')"

// Click clicks the first element of a CSS selector, once it is visible.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.Run(chromedp.Click(chromedp.CSS(selector)))
}

// Press presses a key: a character, or a constant of chromedp/kb.
func (tab *Tab) Press(key string, modifiers ...chromedp.Modifier) {
	tab.t.Helper()
	tab.Run(chromedp.KeyEvent(key, chromedp.KeyModifiers(modifiers...)))
}

// Screenshot writes a PNG of the whole page, or of its visible part.
func (tab *Tab) Screenshot(file string, whole bool) {
	tab.t.Helper()
	take := chromedp.CaptureScreenshot()
	if whole {
		take = chromedp.FullScreenshot(100)
	}
	png, err := within(tab, take)
	if err != nil {
		tab.t.Fatal(err)
	}
	if err := os.WriteFile(file, png, 0o644); err != nil { //nolint:gosec // a picture for everybody
		tab.t.Fatal(err)
	}
}
