package browser_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/page/browser"
)

// chromium is the one browser of all tests here: each has a tab of its own.
var chromium = sync.OnceValues(func() (*browser.Browser, error) { return browser.New(browser.Find(), profile) })

var (
	profile string
	started bool
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if profile, err = os.MkdirTemp("", "llmsup-browser"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(profile)
	code := m.Run()
	if started {
		if b, err := chromium(); err == nil {
			b.Close()
		}
	}
	return code
}

// open opens a view of a fixture in a new tab.
func open(t *testing.T, f *fixture, view string, look browser.Look) *browser.Tab {
	t.Helper()
	if browser.Find() == "" {
		browser.NotRun(t, browser.Missing)
	}
	started = true
	b, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	return b.Open(t, f.URL+"/ui/"+view, look)
}

// eachLook shows a view with each look, all in one tab, since a new tab takes a second of processor time.
func eachLook(t *testing.T, f *fixture, view string, looks map[string]browser.Look, check func(name string, tab *browser.Tab)) {
	t.Helper()
	var tab *browser.Tab
	for name, look := range looks {
		if tab == nil {
			tab = open(t, f, view, look)
		} else {
			tab.Show(f.URL+"/ui/"+view, look)
		}
		check(name, tab)
	}
}
