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

// lockHolders are the tests of this process that use the model, by name.
var lockHolders sync.Map

// lockForTest waits for one of the locks and holds it until the test ends, unless the test or
// one of its parents holds one already.
func lockForTest(t testing.TB) error {
	name := t.Name()
	for i, c := range name + "/" {
		if _, has := lockHolders.Load(name[:i]); has && c == '/' {
			return nil
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("llmsup-slow-models-%d", os.Geteuid()))
	unlock, err := lockSlot(dir, max(1, runtime.NumCPU()/2))
	if err != nil {
		return fmt.Errorf("wait for a slow model: %w", err)
	}
	lockHolders.Store(name, true)
	t.Cleanup(func() {
		lockHolders.Delete(name)
		unlock()
	})
	return nil
}

// lockSlot waits for one of n locks that all processes of the machine share. Each is a lock
// on a file in dir, so the kernel releases the lock of a process that is killed.
func lockSlot(dir string, n int) (unlock func(), err error) {
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
