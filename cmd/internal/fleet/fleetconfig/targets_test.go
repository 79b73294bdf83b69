package fleetconfig

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// TestWarnTargets: a route to nothing is logged once, and again only if it has changed.
func TestWarnTargets(t *testing.T) {
	b := newBox(t, t.TempDir(), "routes: {m: {primary: opnrouter}, n: {primary: openrouter, primary_model: x}}\n")
	var logged bytes.Buffer
	b.o.Log = zerolog.New(&logged)
	b.warnTargets()
	b.warnTargets()
	if n := strings.Count(logged.String(), `routes.m: this box has no upstream \"opnrouter\", and no box has a server of that name now`); n != 1 || strings.Count(logged.String(), "\n") != 1 {
		t.Errorf("the log is %s", logged.String())
	}
	if err := b.reload(""); err != nil {
		t.Fatal(err)
	}
	b.warnTargets()
	if err := b.reload("routes: {m: {primary: opnrouter}}\n"); err != nil {
		t.Fatal(err)
	}
	b.warnTargets()
	if strings.Count(logged.String(), "\n") != 2 {
		t.Errorf("the log is %s", logged.String())
	}
}
