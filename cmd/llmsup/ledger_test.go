package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// faultyLedger is a daemon whose ledger fails, with one upstream, which bills its calls.
type faultyLedger struct {
	*instance
	upstream *billingUpstream
	dir      string // of the ledger
}

// launchFaultyLedger makes three calls, stops llmsup, and starts it again after prepare
// has changed the ledger's folder.
func launchFaultyLedger(t *testing.T, prepare func(dir string)) faultyLedger {
	t.Helper()
	c, state := newBillingUpstream(t), shortDir(t)
	file := newTestConfig(t, c.config("budget: {daily: 1000}\n"))
	tr := faultyLedger{launchIn(t, state, c.env(), "--config", file.path), c, filepath.Join(state, "ledger")}
	tr.call(3)
	tr.awaitCondition("ok")
	tr.stop()
	prepare(tr.dir)
	tr.instance = launchIn(t, state, c.env(), "--config", file.path)
	return tr
}

// call makes n calls; none of them may fail.
func (tr faultyLedger) call(n int) {
	tr.t.Helper()
	for range n {
		if r := tr.chat("gpt-4o", ""); r.status != 200 || r.readErr != nil {
			tr.t.Fatalf("%+v", r)
		}
	}
}

// awaitCondition waits until the status shows a condition of the ledger.
func (tr faultyLedger) awaitCondition(condition string) control.Ledger {
	tr.t.Helper()
	return tr.awaitStatus(condition, func(s control.Status) bool { return s.Ledger.Condition == condition }).Ledger
}

// wantStatus checks that llmsup status has a line about the ledger with all the texts.
func (tr faultyLedger) wantStatus(texts ...string) {
	tr.t.Helper()
	code, out := tr.run("status")
	for line := range strings.Lines(out) {
		if all := strings.HasPrefix(line, "the ledger"); all {
			for _, text := range texts {
				all = all && strings.Contains(line, text)
			}
			if all {
				return
			}
		}
	}
	tr.t.Errorf("exit %d, no line has %q:\n%s", code, texts, out)
}

// wantRecovered checks that the ledger and the budget have everything that was billed.
func (tr faultyLedger) wantRecovered() {
	tr.t.Helper()
	tr.awaitCondition("ok")
	billed, calls := tr.upstream.total()
	if u := tr.usage(); u.Total.Calls != int64(calls) || *u.Total.Cost != control.USD(billed) || u.Incomplete != "" {
		tr.t.Errorf("%d calls that cost %s are in the ledger, want %d and %s; %s", u.Total.Calls, exactUSD(u.Total.Cost), calls, billed, u.Incomplete)
	}
	tr.awaitBudget()
}

// awaitBudget waits until the budget counts what was billed.
func (tr faultyLedger) awaitBudget() {
	tr.t.Helper()
	billed, _ := tr.upstream.total()
	tr.awaitStatus("counting what was spent", func(s control.Status) bool { return s.Budgets[0].Spent == control.USD(billed) })
}

// TestLedgerReadOnly: status reports a database that is read-only at the start. Once it
// is writable, the ledger has all calls.
func TestLedgerReadOnly(t *testing.T) {
	t.Parallel()
	var repair func() error
	tr := launchFaultyLedger(t, func(dir string) {
		path := filepath.Join(dir, "ledger.db")
		repair = func() error { return os.Chmod(path, 0o600) }
		if os.Geteuid() != 0 {
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
			return
		}
		// Root can write to every file, except on a read-only mount.
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			notRun(t, fmt.Sprintf("nothing can be mounted: %v", err))
		}
		repair = func() error { return unix.Unmount(path, unix.MNT_DETACH) }
		t.Cleanup(func() { _ = repair() }) // if the test has failed before
		if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	})
	l := tr.awaitCondition("spilling")
	if !strings.Contains(l.Reason, "it is read-only") {
		t.Errorf("%+v", l)
	}
	tr.call(5)
	tr.wantStatus("has been spilling for ", "it is read-only: check its owner")
	// usage reports that calls may be missing.
	if code, out := tr.run("usage"); code != 0 && (code != 1 || !strings.Contains(out, "it is read-only")) || code == 0 && !strings.Contains(out, "Calls may be missing here: the ledger is spilling: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if err := repair(); err != nil {
		t.Fatal(err)
	}
	tr.wantRecovered()
}

// TestLedgerCorrupt: a database that is overwritten while llmsup runs is kept under
// another name, which status shows. No call fails, and later calls are written to a new
// database.
func TestLedgerCorrupt(t *testing.T) {
	t.Parallel()
	tr := launchFaultyLedger(t, func(string) {})
	tr.call(1)
	tr.wantRecovered() // and the budget, which cannot be computed from a corrupt database
	path := filepath.Join(tr.dir, "ledger.db")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(strings.Repeat("garbage ", 4096))); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before, _ := tr.upstream.total()
	tr.call(5)
	l := tr.awaitStatus("ok, with the corrupt database kept", func(s control.Status) bool { return s.Ledger.Aside != "" && s.Ledger.Condition == "ok" }).Ledger
	if _, err := os.Stat(l.Aside); err != nil || !strings.HasPrefix(l.Aside, path) {
		t.Errorf("kept as %s: %v", l.Aside, err)
	}
	tr.wantStatus("was corrupt, and is kept as " + l.Aside)
	billed, _ := tr.upstream.total()
	// The row at which the corruption was noticed may be in either database.
	if u := tr.usage(); u.Total.Calls < 5 || *u.Total.Cost < control.USD(billed-before) {
		t.Errorf("%d calls are in the new one: %s", u.Total.Calls, show(u.Total))
	}
	tr.awaitBudget()
}

// TestLedgerDiskFull: no call fails because the disk is full. Status reports it, and the
// ledger has all calls once there is space.
func TestLedgerDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a small file system")
	}
	tr := launchFaultyLedger(t, func(dir string) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
			notRun(t, fmt.Sprintf("no small file system can be mounted: %v", err))
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	})
	tr.upstream.reset() // the first three calls, which were removed with the folder
	tr.call(1)
	tr.awaitCondition("ok")
	filler := filepath.Join(tr.dir, "filler")
	fill(t, filler)
	for n := 0; ; n++ { // until the preallocated spool is used up, too
		if n > 5000 {
			t.Fatal("the disk is not full")
		}
		tr.call(1)
		if s, err := tr.client.Status(t.Context()); err != nil || s.Ledger.Condition == "spilling" {
			break
		}
	}
	if l := tr.awaitCondition("spilling"); !strings.Contains(l.Reason, "the disk is full: free space in "+tr.dir) {
		t.Errorf("%+v", l)
	}
	tr.call(20)
	tr.wantStatus("has been spilling for ", "the disk is full: free space in ")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	tr.wantRecovered()
}

// TestLedgerRecordsAbortedCalls: a call that the stop of llmsup aborts is in the ledger,
// as partial and with an unknown cost.
func TestLedgerRecordsAbortedCalls(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string]int{"by the end of the grace": 1, "by a second Ctrl-C": 2} {
		t.Run(name, func(t *testing.T) {
			c, state := newBillingUpstream(t), shortDir(t)
			grace := map[int]string{1: "100ms", 2: "30s"}[signals]
			file := newTestConfig(t, c.config("shutdown_grace: "+grace+"\n"))
			in := launchIn(t, state, c.env(), "--config", file.path)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.url+"/v1/chat/completions",
				strings.NewReader(`{"model":"gpt-4o","stream":true,"user":"waits","messages":[{"role":"user","content":"count"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer client-secret")
			resp, err := http.DefaultClient.Do(req) // Do returns once the answer has begun
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for range signals {
				_ = in.cmd.Process.Signal(syscall.SIGINT)
				in.awaitLog("stopping; send the signal again to stop at once")
			}
			<-in.done
			if body, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(body), "[DONE]") {
				t.Errorf("the stream ended without an error: %s", body)
			}
			again := launchIn(t, state, c.env(), "--config", file.path)
			if s := again.usage().Total; s.Calls != 1 || s.Partial != 1 || s.Paid != 1 || s.UnknownCost != 1 || s.Cost != nil {
				t.Errorf("%+v", s)
			}
		})
	}
}

// fill writes to a file until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
