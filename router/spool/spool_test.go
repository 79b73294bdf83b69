package spool

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestFile(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "first "); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", checkEvery+pieceSize)
	if n, err := f.ReadFrom(strings.NewReader(long)); err != nil || n != int64(len(long)) || f.Size() != n+6 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for _, span := range [][2]int64{{0, 6}, {3, 8}, {f.Size() - 2, f.Size()}, {6, 6}} {
		for range 2 { // readers do not share a position
			got, err := io.ReadAll(f.Section(span[0], span[1]))
			if want := ("first " + long)[span[0]:span[1]]; err != nil || string(got) != want {
				t.Errorf("%v: %q, %v", span, got, err)
			}
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the folder has %v, %v: another process can open the body", entries, err)
	}
	if info, err := f.file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	f.Close()
	if _, err := io.ReadAll(f.Section(0, 1)); err == nil {
		t.Error("a closed file can be read")
	}
}

// TestNoSpace: a body never takes the last free space of the disk.
func TestNoSpace(t *testing.T) {
	if _, err := Create(t.TempDir(), 1<<50); !errors.Is(err, ErrNoSpace) {
		t.Errorf("1 PiB: %v", err)
	}
	if _, err := Create(t.TempDir()+"/missing", 1); err == nil || errors.Is(err, ErrNoSpace) {
		t.Errorf("no folder: %v", err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if _, err := (&File{file: full}).Write([]byte("x")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a full disk: %v", err)
	}
}
