package demotest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/models/demo"
)

func TestMain(m *testing.M) {
	code := m.Run()
	Cleanup()
	os.Exit(code)
}

// comparingWriter compares what is written to it with the content of a reader.
type comparingWriter struct{ with io.Reader }

func (c comparingWriter) Write(p []byte) (int, error) {
	got := make([]byte, len(p))
	if _, err := io.ReadFull(c.with, got); err != nil {
		return 0, err
	}
	if !bytes.Equal(got, p) {
		return 0, errors.New("other bytes")
	}
	return len(p), nil
}

// TestSlowIsWhole checks that the file has all bytes of the model and is sparse.
func TestSlowIsWhole(t *testing.T) {
	path := Slow(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := demo.Write(comparingWriter{f}, demo.Slow); err != nil {
		t.Error(err)
	}
	if n, err := f.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after its end: %d bytes, %v", n, err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Size < 200<<20 || stat.Blocks*512 > 50<<20 {
		t.Errorf("%d bytes, %d of them on the disk, %v", stat.Size, stat.Blocks*512, err)
	}
	t.Run("again", func(t *testing.T) { // a second lock would never be free
		if again := Slow(t); again != path {
			t.Errorf("%s and %s", again, path)
		}
	})
}

// TestSlots checks that a waiting process gets a released lock.
func TestSlots(t *testing.T) {
	dir := t.TempDir()
	take := func() (unlock func()) {
		unlock, err := lockSlot(dir, 2)
		if err != nil {
			t.Error(err)
		}
		return unlock
	}
	first, second := take(), take()
	third := make(chan func())
	for range 2 {
		go func() { third <- take() }()
	}
	select {
	case <-third:
		t.Error("three have one of two locks")
	default:
	}
	first()
	second()
	(<-third)()
	(<-third)()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%d locks, %v", len(files), err)
	}
}
