package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The next segment begins with the attempts that have begun and not ended, and a file
// that another program removed is replaced.
func TestRotate(t *testing.T) {
	dir := t.TempDir()
	j := New(dir, "00000001", (*os.File).WriteAt)
	add := func(kind Kind, id int64) string {
		t.Helper()
		e := fullEntry(id, fmt.Sprint(id))
		e.Ends = nil
		line := e.Line(kind)
		if n, err := j.Append([]*Line{&line}, true); n != 1 || err != nil {
			t.Fatalf("%d lines are appended: %v", n, err)
		}
		return string(line.AppendTo(nil))
	}
	content := func() string {
		raw, err := os.ReadFile(j.present.file.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	rotate := func() *File {
		t.Helper()
		next, err := j.NewSegment()
		if err != nil {
			t.Fatal(err)
		}
		file, err := j.Rotate(next)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	takeOne := func(file *File) {
		t.Helper()
		if file == nil || len(file.entries) != 1 {
			t.Fatalf("the file for the committer is %+v", file)
		}
		_ = file.file.Close()
	}
	begun := add(BeginLine, 1)
	add(BeginLine, 2)
	add(BeginLine, 3)
	add(RowLine, 2)
	add(EndLine, 3)
	takeOne(rotate())
	if text := content(); text != begun {
		t.Errorf("the next segment begins with %q", text)
	}
	if file := rotate(); file != nil {
		t.Errorf("a segment without rows is given to the committer: %+v", file)
	}
	add(RowLine, 4)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	later := add(RowLine, 5)
	if text := content(); text != begun+later {
		t.Errorf("the new segment has %q", text)
	}
	if n := j.Waiting(); n != 2 {
		t.Errorf("there are %d rows for the committer", n)
	}
	takeOne(rotate()) // the file that was removed
	takeOne(rotate())
	add(RowLine, 6)
	files := j.Close()
	if len(files) != 1 {
		t.Fatalf("the last files are %+v", files)
	}
	takeOne(files[0])
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 3 { // the two that the committer removes, and the attempt that has begun
		t.Errorf("left are %q: %v", left, err)
	}
}

// A journal that ends without rows leaves a file only for attempts that have begun.
func TestCloseWithoutRows(t *testing.T) {
	for name, begun := range map[string]int{"nothing has begun": 0, "an attempt has begun": 1} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := New(dir, "00000001", (*os.File).WriteAt)
			if _, err := j.Append(nil, true); err != nil {
				t.Fatal(err)
			}
			for id := range begun {
				line := fullEntry(int64(id), "r").Line(BeginLine)
				if _, err := j.Append([]*Line{&line}, true); err != nil {
					t.Fatal(err)
				}
			}
			if files := j.Close(); len(files) != 0 {
				t.Errorf("the committer is given %+v", files)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != begun {
				t.Errorf("left are %v: %v", left, err)
			}
		})
	}
}
