package demotest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// borrowers are the tests of this process that have the model, by name.
var borrowers sync.Map

// lend waits until a test may have the model, unless it, or a test that it is a
// part of, has it already.
func lend(t testing.TB) error {
	name := t.Name()
	for i, c := range name + "/" {
		if _, has := borrowers.Load(name[:i]); has && c == '/' {
			return nil
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("llmsup-slow-models-%d", os.Geteuid()))
	unlock, err := takeSlot(dir, max(1, runtime.NumCPU()/2))
	if err != nil {
		return fmt.Errorf("wait for a slow model: %w", err)
	}
	borrowers.Store(name, true)
	t.Cleanup(func() {
		borrowers.Delete(name)
		unlock()
	})
	return nil
}

// takeSlot takes one of n slots that the processes of a machine share, and waits
// until there is one. Each is a lock on a file in dir, so the kernel gives back the
// slot of a process that is killed.
func takeSlot(dir string, n int) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	how := unix.LOCK_EX | unix.LOCK_NB
	for i := 0; ; i++ {
		if i == n { // none is free: wait for one of them
			i, how = rand.IntN(n), unix.LOCK_EX
		}
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err = lock(f, how); err == nil {
			return func() { _ = f.Close() }, nil
		}
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
	}
}

func lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
