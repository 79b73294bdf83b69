package nvmltest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestWriteRefuses(t *testing.T) {
	change := func(f func(*Box)) Box {
		box := OneGPU()
		f(&box)
		return box
	}
	cases := map[string]struct {
		box  Box
		want string
	}{
		"a misspelt function":   {change(func(b *Box) { b.Hang = "nvmlDeviceGetPower" }), "no such function"},
		"a constant":            {change(func(b *Box) { b.Hang = "nvmlMemory_v2" }), "no such function"},
		"an unknown unsupport":  {change(func(b *Box) { b.GPUs[0].Unsupported = []string{"GetPowerUsage"} }), "no such function"},
		"two lines":             {change(func(b *Box) { b.GPUs[0].Name = "a\ngpu 0 lost 1" }), "more than a line"},
		"no UUID":               {Box{GPUs: []GPU{{Name: "a"}}}, "no UUID"},
		"more than its memory":  {change(func(b *Box) { b.GPUs[0].Used = b.GPUs[0].Total }), "more than its memory"},
		"a negative figure":     {change(func(b *Box) { b.GPUs[0].Temperature = -1 }), "Unsupported"},
		"Xids without a number": {change(func(b *Box) { b.GPUs[0].Xids = []Xid{{Code: 79}} }), "numbered from 1"},
		"too many GPUs":         {Box{GPUs: slices.Repeat(OneGPU().GPUs, 17)}, "at most 16"},
		"too many processes":    {change(func(b *Box) { b.GPUs[0].Processes = make([]Process, 65) }), "at most 64"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "figures")
			err := c.box.Write(path)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if _, err := os.Stat(path); err == nil {
				t.Error("it wrote the file all the same")
			}
		})
	}
}

func TestWriteLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if err := OneGPU().Write(filepath.Join(dir, "figures")); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v (%v), want the file alone", entries, err)
	}
	if err := OneGPU().Write(filepath.Join(dir, "none", "figures")); err == nil {
		t.Error("a folder that is not there gave no error")
	}
}

// The library must not take a bad file, which Write cannot detect, for a fault of the GPU.
func TestMistakesAreLoud(t *testing.T) {
	program := gcc(t, "ask.c")
	for text, want := range map[string]string{
		"init OUT_OF_LUCK\n":                    "OUT_OF_LUCK is no NVML error",
		"cuda twelve\n":                         "not like 12.8",
		"speed 3\n":                             "no figure is called speed",
		"gpu 0 speed 3\n":                       "no figure of a GPU is called speed",
		"gpu 0 total -1\n":                      "-1 is no number",
		"gpu 16 total 1\n":                      "at most 16 GPUs",
		"driver\n":                              "has no value",
		"gpu 0 uuid " + strings.Repeat("a", 80): "longer than 79 bytes",
		strings.Repeat("gpu 0 xid 1 1\n", 65):   "more than 64",
		"gpu 0 process 12 many compute\n":       "is not a PID",
		"":                                      "", // no file at all
	} {
		path := filepath.Join(t.TempDir(), "figures")
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		} else {
			want = "cannot be read"
		}
		child := exec.Command(program)
		child.Env = append(os.Environ(), Env(Build(t, Modern), path)...)
		child.Stdin = strings.NewReader("plain nvmlInit_v2\n")
		var complaint strings.Builder
		child.Stderr = &complaint
		if err := child.Run(); err == nil || !strings.Contains(complaint.String(), want) {
			t.Errorf("%q: %v, %q, want an end with %q", text, err, complaint.String(), want)
		}
	}
}

func TestEnv(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", "")
	if got := Env("/a", "/b"); !slices.Equal(got, []string{"LD_LIBRARY_PATH=/a", "LLMSUP_TEST_NVML=/b"}) {
		t.Errorf("environment %q", got)
	}
	t.Setenv("LD_LIBRARY_PATH", "/old")
	if got := Env("/a", "/b")[0]; got != "LD_LIBRARY_PATH=/a:/old" {
		t.Errorf("environment %q", got)
	}
}

// Two processes that build at once, or one that is killed meanwhile, must not leave an
// incomplete library.
func TestBuildInAnEmptyCache(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("LLMSUP_CACHE_DIR", cache)
	type built struct {
		dir string
		err error
	}
	results := make(chan built)
	for range 4 {
		go func() {
			dir, err := OldDriver.build()
			results <- built{dir, err}
		}()
	}
	var first string
	for range 4 {
		r := <-results
		if first == "" {
			first = r.dir
		}
		if r.err != nil || r.dir != first {
			t.Errorf("built %s, %v; another %s", r.dir, r.err, first)
		}
	}
	entries, err := os.ReadDir(filepath.Join(cache, "nvmltest"))
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v (%v), want one folder", entries, err)
	}
	if out, err := exec.Command("readelf", "-d", filepath.Join(first, soname)).Output(); err != nil || !strings.Contains(string(out), "soname: ["+soname+"]") {
		t.Errorf("readelf: %v\n%s", err, out)
	}
	t.Setenv("PATH", "")
	t.Setenv("LLMSUP_CACHE_DIR", t.TempDir())
	if _, err := Modern.build(); err == nil {
		t.Error("without gcc there is no error")
	}
}
