package modelfiles

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/cmd/internal/placement"
	"github.com/llmsup/llmsup/models/demo"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
)

// demoModel returns the path of a real model in a folder of the test.
func demoModel(t *testing.T, folder string) string {
	t.Helper()
	path, err := demo.Ensure(folder)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// headerOf returns a GGUF file with texts as metadata and no tensors.
func headerOf(texts ...string) string {
	text := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
	}
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(texts)/2))
	for i := 0; i < len(texts); i += 2 {
		b = binary.LittleEndian.AppendUint32(text(b, texts[i]), 8) // a string
		b = text(b, texts[i+1])
	}
	return string(b)
}

func list(t *testing.T, l *Lister, r Request) control.ModelFiles {
	t.Helper()
	got, err := l.List(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// names returns the names of the files, with their kinds.
func names(list control.ModelFiles) (all []string) {
	for _, f := range list.Files {
		all = append(all, f.Name+" "+f.Kind)
	}
	return all
}

// TestHeader: all that a model's header says, and the need as `llmsup check` has it.
func TestHeader(t *testing.T) {
	folder := t.TempDir()
	path := demoModel(t, folder)
	card := func(index int) fit.GPU {
		return fit.GPU{Index: index, Total: 24 << 30, Usable: 20 << 30, UsableNow: 10 << 30, Empty: 24 << 30}
	}
	got := list(t, &Lister{}, Request{Folders: []string{folder}, Box: fit.Box{GPUs: []fit.GPU{card(0), card(2)}}, Run: vram.Run{CtxSize: 8192, GPULayers: 99}})
	h, err := gguf.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	need := vram.Estimate(h, vram.Run{CtxSize: 8192, GPULayers: 99})
	total, one, two := need.Total(), need.Total()+placement.Margin, (need.Total()+need.Compute)/2+placement.Margin
	want := control.ModelFiles{Folder: folder, CtxSize: 8192, Files: []control.ModelFile{{
		Name: "demo", Path: path, Parts: 1, SizeBytes: uint64(info.Size()), Kind: "model", Quantization: h.FileType.String(), Parameters: &h.Parameters,
		Context: new(int(h.Context)), NeedBytes: &total, LargestContext: new(int(h.Context)), Uncertain: need.UncertainBecause,
		Placements: []control.Placement{{{GPU: 0, NeedBytes: &one}}, {{GPU: 2, NeedBytes: &one}}, {{GPU: 0, NeedBytes: &two}, {GPU: 2, NeedBytes: &two}}},
	}}}
	if one == 0 || h.FileType == gguf.FileTypeUnknown || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// TestFind: which files are found, and as what.
func TestFind(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(t *testing.T, dir string) (used []string)
		want []string
	}{
		"no folder": {make: func(*testing.T, string) []string { return nil }},
		"other files, and hidden folders": {make: func(t *testing.T, dir string) []string {
			write(t, dir+"/a.txt", "")
			write(t, dir+"/.cache/a.gguf", "")
			return nil
		}},
		"folders below, not too deep": {
			func(t *testing.T, dir string) []string {
				write(t, dir+"/publisher/model/a.gguf", "Hello")
				write(t, dir+"/publisher/model/q4/b.gguf", "Hello")
				write(t, dir+"/publisher/model/q4/more/c.gguf", "Hello")
				return nil
			},
			[]string{"a unusable", "b unusable"},
		},
		"a used one, by another path": {func(t *testing.T, dir string) []string {
			path := demoModel(t, dir)
			link(t, dir, dir+"/models")
			return []string{dir + "/models/" + filepath.Base(path)}
		}, nil},
		"a link to a used one": {func(t *testing.T, dir string) []string {
			path := demoModel(t, dir+"/blobs")
			link(t, path, dir+"/snapshot/x.gguf")
			return []string{path}
		}, nil},
		"one file with two names": {func(t *testing.T, dir string) []string {
			link(t, demoModel(t, dir), dir+"/z.gguf")
			return nil
		}, []string{"demo model"}},
		"links in a circle": {func(t *testing.T, dir string) []string {
			demoModel(t, dir)
			link(t, dir, dir+"/self")
			link(t, dir+"/b.gguf", dir+"/a.gguf")
			link(t, dir+"/a.gguf", dir+"/b.gguf")
			return nil
		}, []string{"demo model"}},
		"a directory and a socket of that name": {func(t *testing.T, dir string) []string {
			if err := os.Mkdir(dir+"/dir.gguf", 0o700); err != nil {
				t.Fatal(err)
			}
			link(t, "/dev/null", dir+"/null.gguf")
			return nil
		}, nil},
		"parts are one": {
			func(t *testing.T, dir string) []string {
				write(t, dir+"/big-00001-of-00002.gguf", "Hello")
				write(t, dir+"/big-00002-of-00002.gguf", "Hello")
				return nil
			},
			[]string{"big unusable"},
		},
		"parts, of which one is used": {func(t *testing.T, dir string) []string {
			write(t, dir+"/big-00001-of-00002.gguf", "Hello")
			return []string{write(t, dir+"/big-00002-of-00002.gguf", "Hello")}
		}, nil},
		"a projector": {
			func(t *testing.T, dir string) []string {
				write(t, dir+"/mmproj.gguf", headerOf("general.type", "mmproj", "general.architecture", "clip"))
				return nil
			},
			[]string{"mmproj projector"},
		},
		"an adapter": {
			func(t *testing.T, dir string) []string {
				write(t, dir+"/lora.GGUF", headerOf("general.type", "adapter", "general.architecture", "llama"))
				return nil
			},
			[]string{"lora unusable"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			used := tc.make(t, dir)
			got := list(t, &Lister{}, Request{Folders: []string{dir + "/none", dir, dir}, Used: used})
			if !slices.Equal(names(got), tc.want) || got.Incomplete != "" {
				t.Errorf("%q, %q, want %q", names(got), got.Incomplete, tc.want)
			}
			for _, f := range got.Files {
				if (f.Problem != "") != (f.Kind == control.KindUnusable) || strings.Contains(f.Problem, dir) {
					t.Errorf("%s: %q", f.Name, f.Problem)
				}
			}
		})
	}
}

// TestLimits: no more files than fit a page are listed, and none is read after the time.
func TestLimits(t *testing.T) {
	dir := t.TempDir()
	for i := range maxFiles + 1 {
		write(t, fmt.Sprintf("%s/%03d.gguf", dir, i), "Hello")
	}
	l := &Lister{}
	if got := list(t, l, Request{Folders: []string{dir}}); len(got.Files) != maxFiles || got.Incomplete == "" {
		t.Errorf("%d files, %q", len(got.Files), got.Incomplete)
	}
	if got := l.read(Request{Folders: []string{dir}}, time.Now().Add(-time.Second)); len(got.Files) != 0 || got.Incomplete == "" {
		t.Errorf("%d files after the time, %q", len(got.Files), got.Incomplete)
	}
}

// TestCache: a header is read again only if its file has changed.
func TestCache(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir+"/a.gguf", "Hello")
	l, r := &Lister{}, Request{Folders: []string{dir}}
	list(t, l, r)
	kept := l.known[path]
	kept.about.Problem = "kept"
	l.known[path] = kept
	if got := list(t, l, r); got.Files[0].Problem != "kept" {
		t.Errorf("the header of a file that has not changed was read again: %+v", got.Files)
	}
	write(t, path, "Hello again")
	if got := list(t, l, r); got.Files[0].Problem == "kept" {
		t.Error("the header of a file that has changed was not read again")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := list(t, l, r); len(got.Files) != 0 || len(l.known) != 0 {
		t.Errorf("%+v, and %d headers are kept", got.Files, len(l.known))
	}
}
