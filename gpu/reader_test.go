//go:build linux && cgo

package gpu

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// readerProcess is a program that reads a box of nvmltest with the real adapter.
type readerProcess struct {
	t       testing.TB
	figures string // the file
	in      io.WriteCloser
	out     chan report
}

// startReader runs the program in a role of main_test.go. lib is the directory of its NVML
// library.
func startReader(t testing.TB, role, lib string, box nvmltest.Box) *readerProcess {
	t.Helper()
	r := &readerProcess{t: t, figures: filepath.Join(t.TempDir(), "figures"), out: make(chan report, 100)}
	r.setBox(box)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self)
	child.Env = append(append(os.Environ(), roleVariable+"="+role), nvmltest.Env(lib, r.figures)...)
	var stderr strings.Builder
	child.Stderr = &stderr
	if r.in, err = child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.out)
		for lines := json.NewDecoder(out); ; {
			var reply report
			if lines.Decode(&reply) != nil {
				return
			}
			r.out <- reply
		}
	}()
	t.Cleanup(func() {
		_ = r.in.Close()
		late := time.AfterFunc(waitLimit, func() { _ = child.Process.Kill() })
		defer late.Stop()
		for range r.out { // replies that were not read
		}
		if err := child.Wait(); err != nil {
			t.Errorf("the program that reads: %v\n%s", err, &stderr)
		}
	})
	return r
}

// waitLimit is how long a test waits for an event.
const waitLimit = 30 * time.Second

func (r *readerProcess) setBox(box nvmltest.Box) {
	r.t.Helper()
	if err := box.Write(r.figures); err != nil {
		r.t.Fatal(err)
	}
}

// next returns the program's next line.
func (r *readerProcess) next() report {
	r.t.Helper()
	select {
	case reply, more := <-r.out:
		if !more {
			r.t.Fatal("the program has ended")
		}
		return reply
	case <-time.After(waitLimit):
		r.t.Fatalf("nothing is reply in %s", waitLimit)
	}
	return report{}
}

// at makes a program in the role "rounds" read the sample of a second.
func (r *readerProcess) at(second int) report {
	r.t.Helper()
	if _, err := fmt.Fprintln(r.in, second); err != nil {
		r.t.Fatal(err)
	}
	return r.next()
}

// until waits for a sample of a program in the role "monitor".
func (r *readerProcess) until(what string, is func(report) bool) report {
	r.t.Helper()
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if reply := r.next(); is(reply) {
			return reply
		}
	}
	r.t.Fatalf("no sample in %s in which %s", waitLimit, what)
	return report{}
}
