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

// trouble is a daemon whose ledger gets into some, with one upstream that takes
// money.
type trouble struct {
	*instance
	till *till
	dir  string // the ledger's
}

// inTrouble launches it, after prepare, which gets the ledger's folder as an earlier
// run of three calls has left it.
func inTrouble(t *testing.T, prepare func(dir string)) trouble {
	t.Helper()
	c, state := newTill(t), shortDir(t)
	file := newEditable(t, c.config("budget: {daily: 100}\n"))
	tr := trouble{launchIn(t, state, c.env(), "--config", file.path), c, filepath.Join(state, "ledger")}
	tr.call(3)
	tr.is("ok")
	tr.stop()
	prepare(tr.dir)
	tr.instance = launchIn(t, state, c.env(), "--config", file.path)
	return tr
}

// call makes calls, none of which may fail.
func (tr trouble) call(n int) {
	tr.t.Helper()
	for range n {
		if r := tr.chat("gpt-4o", ""); r.status != 200 || r.readErr != nil {
			tr.t.Fatalf("%+v", r)
		}
	}
}

// is waits until status tells of a condition.
func (tr trouble) is(condition string) control.Ledger {
	tr.t.Helper()
	return tr.awaitStatus(condition, func(s control.Status) bool { return s.Ledger.Condition == condition }).Ledger
}

// tells wants a line of status.
func (tr trouble) tells(words ...string) {
	tr.t.Helper()
	code, out := exec1(tr.t, "status", "--control-socket", tr.state+"/c.sock")
	for line := range strings.Lines(out) {
		if all := strings.HasPrefix(line, "the ledger"); all {
			for _, word := range words {
				all = all && strings.Contains(line, word)
			}
			if all {
				return
			}
		}
	}
	tr.t.Errorf("exit %d, no line has %q:\n%s", code, words, out)
}

// recovered wants all that was paid to be in the ledger, and in the budget.
func (tr trouble) recovered() {
	tr.t.Helper()
	tr.is("ok")
	taken, calls := tr.till.sum()
	if u := tr.usage(); u.Total.Calls != int64(calls) || *u.Total.Cost != control.USD(taken) || u.Incomplete != "" {
		tr.t.Errorf("%d calls that cost %s are in the ledger, want %d and %s; %s", u.Total.Calls, exactUSD(u.Total.Cost), calls, taken, u.Incomplete)
	}
	tr.knows()
}

// knows wants the budget to be what was taken.
func (tr trouble) knows() {
	tr.t.Helper()
	taken, _ := tr.till.sum()
	tr.awaitStatus("aware of what is spent", func(s control.Status) bool { return s.Budgets[0].Spent == control.USD(taken) })
}

// TestLedgerReadOnly: a database that can't be written to at the start is told, and
// what was spent meanwhile and before is known when it can.
func TestLedgerReadOnly(t *testing.T) {
	t.Parallel()
	var mend func() error
	tr := inTrouble(t, func(dir string) {
		path := filepath.Join(dir, "ledger.db")
		mend = func() error { return os.Chmod(path, 0o600) }
		if os.Geteuid() != 0 {
			if err := os.Chmod(path, 0o400); err != nil {
				t.Fatal(err)
			}
			return
		}
		// Root may write to every file, but for one that is mounted so.
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			notRun(t, fmt.Sprintf("nothing can be mounted: %v", err))
		}
		mend = func() error { return unix.Unmount(path, unix.MNT_DETACH) }
		t.Cleanup(func() { _ = mend() }) // where the test has not come to it
		if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	})
	l := tr.is("spilling")
	if !strings.Contains(l.Reason, "can't be written to") {
		t.Errorf("%+v", l)
	}
	tr.call(5)
	tr.tells("has been spilling for ", "can't be written to: look at its owner")
	// Nobody can add up what is not there, and a command says so.
	if code, out := exec1(t, "usage", "--control-socket", tr.state+"/c.sock"); code != 0 && (code != 1 || !strings.Contains(out, "can't be written to")) || code == 0 && !strings.Contains(out, "Calls may be missing here: the ledger is spilling: ") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if err := mend(); err != nil {
		t.Fatal(err)
	}
	tr.recovered()
}

// TestLedgerGarbled: a database that is overwritten in mid-run is kept under another
// name, and told; no call fails, and what comes is written to a new one.
func TestLedgerGarbled(t *testing.T) {
	t.Parallel()
	tr := inTrouble(t, func(string) {})
	tr.call(1)
	tr.recovered() // the budget, too: what is garbled nobody can add up
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
	before, _ := tr.till.sum()
	tr.call(5)
	l := tr.awaitStatus("ok with something kept", func(s control.Status) bool { return s.Ledger.Aside != "" && s.Ledger.Condition == "ok" }).Ledger
	if _, err := os.Stat(l.Aside); err != nil || !strings.HasPrefix(l.Aside, path) {
		t.Errorf("kept as %s: %v", l.Aside, err)
	}
	tr.tells("was corrupt, and is kept as " + l.Aside)
	taken, _ := tr.till.sum()
	// The row at which it was noticed may be in either.
	if u := tr.usage(); u.Total.Calls < 5 || *u.Total.Cost < control.USD(taken-before) {
		t.Errorf("%d calls are in the new one: %s", u.Total.Calls, show(u.Total))
	}
	tr.knows()
}

// TestLedgerDiskFull: no call fails for a disk that is full, it is told, and all of
// them are in the ledger when there is room.
func TestLedgerDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		notRun(t, "only root can mount a small file system")
	}
	tr := inTrouble(t, func(dir string) {
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
	tr.till.forget() // the first three calls, which are gone with the folder
	tr.call(1)
	tr.is("ok")
	filler := filepath.Join(tr.dir, "filler")
	fill(t, filler)
	for n := 0; ; n++ { // until what the log has left is used up, too
		if n > 5000 {
			t.Fatal("the disk is not full")
		}
		tr.call(1)
		if s, err := tr.client.Status(t.Context()); err != nil || s.Ledger.Condition == "spilling" {
			break
		}
	}
	if l := tr.is("spilling"); !strings.Contains(l.Reason, "the disk is full: make room in "+tr.dir) {
		t.Errorf("%+v", l)
	}
	tr.call(20)
	tr.tells("has been spilling for ", "the disk is full: make room in ")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	tr.recovered()
}

// TestLedgerKeepsWhatIsCutOff: a call that llmsup's end cuts off is in the ledger,
// marked, and its cost is not known.
func TestLedgerKeepsWhatIsCutOff(t *testing.T) {
	t.Parallel()
	for name, signals := range map[string]int{"by the end of the grace": 1, "by a second Ctrl-C": 2} {
		t.Run(name, func(t *testing.T) {
			c, state := newTill(t), shortDir(t)
			grace := map[int]string{1: "100ms", 2: "30s"}[signals]
			file := newEditable(t, c.config("shutdown_grace: "+grace+"\n"))
			in := launchIn(t, state, c.env(), "--config", file.path)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.url+"/v1/chat/completions",
				strings.NewReader(`{"model":"gpt-4o","stream":true,"user":"waits","messages":[{"role":"user","content":"count"}]}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer client-secret")
			resp, err := http.DefaultClient.Do(req) // the answer has begun when it returns
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for range signals {
				_ = in.cmd.Process.Signal(syscall.SIGINT)
				in.awaitLog("stopping; once more to stop at once")
			}
			<-in.done
			if body, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(body), "[DONE]") {
				t.Errorf("it ended well: %s", body)
			}
			again := launchIn(t, state, c.env(), "--config", file.path)
			if s := again.usage().Total; s.Calls != 1 || s.Partial != 1 || s.Paid != 1 || s.UnknownCost != 1 || s.Cost != nil {
				t.Errorf("%+v", s)
			}
		})
	}
}

// fill uses a disk up, to the last byte.
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
