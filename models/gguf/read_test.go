package gguf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "m.gguf"), llama().bytes(t))
	want := small()
	want.Files = []string{path}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
}

// split is llama() in three files as llama-gguf-split writes them: the first describes the
// model and here has no tensors; the others have almost only tensors.
func split() [3]file {
	all := llama().with("split.no", uint16(0)).with("split.count", uint16(3)).with("split.tensors.count", int32(5))
	later := func(no uint16) file {
		return file{entries: []entry{{"split.no", no}, {"split.count", uint16(3)}, {"split.tensors.count", int32(5)}}}
	}
	return [3]file{all.withTensors(), later(1).withTensors(all.tensors[:3]...), later(2).withTensors(all.tensors[3:]...)}
}

func TestReadSplit(t *testing.T) {
	dir := t.TempDir()
	names := []string{"a model-00001-of-00003.gguf", "a model-00002-of-00003.gguf", "a model-00003-of-00003.gguf"}
	path := func(i int) string { return filepath.Join(dir, names[i]) }
	restore := func(t *testing.T) {
		for i, f := range split() {
			write(t, path(i), f.bytes(t))
		}
	}
	restore(t)
	want := small()
	want.Files = []string{path(0), path(1), path(2)}
	for i, name := range names {
		got, err := Read(path(i))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", name, *got, want)
		}
	}

	tests := map[string]struct {
		spoil func(t *testing.T)
		named int // index of the name that is read
		want  []string
	}{
		"one missing": {
			func(*testing.T) { _ = os.Remove(path(1)) }, 0,
			[]string{names[0], "split in 3 files, of which a model-00002-of-00003.gguf is missing"},
		},
		"two missing": {
			func(*testing.T) { _ = os.Remove(path(0)); _ = os.Remove(path(1)) }, 2,
			[]string{"of which a model-00001-of-00003.gguf and 1 more are missing"},
		},
		"one truncated": {
			func(t *testing.T) { f := split()[2]; f.cut = 7; write(t, path(2), f.bytes(t)) }, 0,
			[]string{names[2], "7 bytes are missing"},
		},
		"two exchanged": {
			func(t *testing.T) { write(t, path(2), split()[1].bytes(t)) }, 0,
			[]string{names[2], "by its header this is part 2 of 3"},
		},
		"one of another model": {
			func(t *testing.T) { write(t, path(1), llama().bytes(t)) }, 0,
			[]string{names[1], "by its header this is part 1 of 1"},
		},
		"fewer tensors than counted": {
			func(t *testing.T) { write(t, path(1), split()[1].withTensors().bytes(t)) }, 0,
			[]string{names[0], "parts should have 5 tensors and have 2"},
		},
		"a tensor in two of them": {
			func(t *testing.T) { write(t, path(2), split()[2].withTensors(llama().tensors[1:3]...).bytes(t)) }, 0,
			[]string{names[0], `has the tensor "blk.0.attn_q.weight" twice`},
		},
		"part 4 of 3": {
			func(t *testing.T) { write(t, path(0), split()[0].with("split.no", uint16(3)).bytes(t)) }, 0,
			[]string{"part 4 of 3"},
		},
		"parts without number": {
			func(t *testing.T) { write(t, path(0), split()[0].with("split.count", uint32(1<<31)).bytes(t)) }, 0,
			[]string{"part 1 of 2147483648"},
		},
		"count as a text": {
			func(t *testing.T) { write(t, path(0), split()[0].with("split.count", "3").bytes(t)) }, 0,
			[]string{"split.count is not a whole number"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			restore(t)
			tt.spoil(t)
			_, err := Read(path(tt.named))
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant ... %s ...", err, want)
				}
			}
		})
	}

	restore(t)
	renamed := write(t, filepath.Join(dir, "renamed.gguf"), split()[1].bytes(t))
	_, err := Read(renamed)
	if err == nil || !strings.Contains(err.Error(), "original names; this one ends in -00002-of-00003.gguf") {
		t.Errorf("renamed: %v", err)
	}
	alone := write(t, filepath.Join(dir, "whole-00001-of-00002.gguf"), llama().bytes(t))
	if _, err := Read(alone); err != nil {
		t.Errorf("a whole file with the name of a part: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "pipe.gguf")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cut := llama()
	cut.cut = 50
	tests := map[string]struct {
		path string
		want string
	}{
		"missing":      {filepath.Join(dir, "no.gguf"), "no such file or directory: check the path"},
		"directory":    {dir, "this is a directory: name the .gguf file in it"},
		"below a file": {filepath.Join(write(t, filepath.Join(dir, "f"), nil), "m.gguf"), "not a directory"},
		"named pipe":   {fifo, "not a regular file"},
		"empty":        {write(t, filepath.Join(dir, "empty.gguf"), nil), "the file is empty"},
		"truncated":    {write(t, filepath.Join(dir, "cut.gguf"), cut.bytes(t)), "50 bytes are missing"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Read(tt.path)
			if err == nil || !strings.HasPrefix(err.Error(), "read model "+tt.path+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant read model %s: ... %s ...", err, tt.path, tt.want)
			}
			if errors.Is(err, fs.ErrNotExist) != (name == "missing") {
				t.Errorf("%v: fs.ErrNotExist is wrong", err)
			}
			if strings.Count(err.Error(), tt.path) != 1 {
				t.Errorf("the path is not named once: %v", err)
			}
		})
	}
}

// Root can read each file, so the read runs as another user, on a thread of its own that
// ends with the goroutine, which does not unlock it.
func TestReadNotPermitted(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "m.gguf"), llama().bytes(t))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				result <- err
				return
			}
		}
		_, err := Read(path)
		result <- err
	}()
	err := <-result
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "must be able to read it") {
		t.Errorf("got %v", err)
	}
}

func TestParts(t *testing.T) {
	for model, want := range map[string][]string{
		"/m/a.gguf":                {"/m/a.gguf"},
		"/m/a-00002-of-00003.gguf": {"/m/a-00001-of-00003.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00003-of-00003.gguf"},
	} {
		if got := Parts(model); !slices.Equal(got, want) {
			t.Errorf("Parts(%s) = %q, want %q", model, got, want)
		}
	}
	if got := Parts("a-00001-of-99999.gguf"); len(got) != 1000 {
		t.Errorf("%d parts", len(got))
	}
}
