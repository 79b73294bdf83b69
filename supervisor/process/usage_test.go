package process

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFileBytes: what a process has mapped and used counts, and so does what it has read.
func TestFileBytes(t *testing.T) {
	const more, others = 64 << 20, 40 << 20 // others: of the program, and of other tests
	own := func() int { return int(FileBytes([]int{os.Getpid()})) }
	wants := func(when string, bytes int) {
		t.Helper()
		if got := own(); got < bytes || got > bytes+others {
			t.Errorf("%s: %d bytes, want %d", when, got, bytes)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := own()
	size := before + more // reads of before, if the test has run before, do not hide it
	if err := os.Truncate(path, int64(size)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	wants("mapped, and not used", before)
	sum := byte(0)
	for i := 0; i < size; i += os.Getpagesize() {
		sum += pages[i]
	}
	wants("mapped and used", size)
	if err := unix.Munmap(pages); err != nil || sum != 0 {
		t.Error(err, sum)
	}
	if _, err := os.ReadFile(path); err != nil {
		t.Error(err)
	}
	if got := own(); got < size || got > before+size+others {
		t.Errorf("after %d bytes were read, and %d before: %d", size, before, got)
	}
	if got := FileBytes(nil); got != 0 {
		t.Errorf("no process has %d bytes", got)
	}
}
