// Package browser drives a real Chromium for tests of the page: those of this folder, which run the page's files on a
// fixture, and those of cmd/llmsup, which run it on the real daemon. Each tab fails its test if the page logs an error
// or requests anything from another origin.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Timeout is how long a test waits for something to appear on the page.
const Timeout = 3 * time.Minute

// Missing is why a test is not run.
const Missing = "it needs Chromium (apt-get install chromium), which scripts/test.sh installs as root"

// programs are the names that Chromium has on PATH.
var programs = []string{"chromium", "chromium-browser", "google-chrome"}

// Find returns Chromium's path: that of LLMSUP_TEST_CHROMIUM, or the one on PATH; "" = there is none.
func Find() string {
	for _, name := range append([]string{os.Getenv("LLMSUP_TEST_CHROMIUM")}, programs...) {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// NotRun skips a test that this machine cannot run, and makes scripts/test.sh list it in its last lines.
func NotRun(t testing.TB, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil { //nolint:gosec // scripts/test.sh sets it
		_, _ = f.WriteString(t.Name() + ": " + why + "\n")
		f.Close()
	}
	t.Skip("not run: " + why)
}

// Browser is a Chromium without a window.
type Browser struct {
	ctx  context.Context //nolint:containedctx // chromedp keeps the browser in it
	stop func()
}

// New starts Chromium with an empty profile below dir.
func New(program, dir string) (*Browser, error) {
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(program), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless,
		chromedp.NoSandbox, // it cannot run as root with one; the tests open their own pages only
		chromedp.DisableGPU, chromedp.UserDataDir(filepath.Join(dir, "chromium")),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("lang", "en-US"), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Env("TZ=UTC", "LANGUAGE=en_US"), chromedp.WSURLReadTimeout(Timeout),
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	b := &Browser{ctx: ctx, stop: func() { stop(); stopAllocator() }}
	if err := chromedp.Do(ctx); err != nil { // starts it
		b.stop()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return b, nil
}

// Close ends Chromium.
func (b *Browser) Close() { b.stop() }

// Start starts Chromium for one test, or skips it without Chromium.
func Start(t testing.TB) *Browser {
	t.Helper()
	program := Find()
	if program == "" {
		NotRun(t, Missing)
	}
	b, err := New(program, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}
