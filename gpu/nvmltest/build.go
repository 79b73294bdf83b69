package nvmltest

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// soname is the name under which programs ask for NVML.
const soname = "libnvidia-ml.so.1"

//go:embed lib
var sources embed.FS

// Variant is an age of the driver.
type Variant int

const (
	// Modern has every function of the library.
	Modern Variant = iota
	// OldDriver lacks the symbols that came after about 2018 (R390 to R410):
	// lib/newer.c lists them. The others behave as in Modern.
	OldDriver
)

func (v Variant) String() string {
	if v == OldDriver {
		return "old driver"
	}
	return "modern"
}

var built = map[Variant]func() (string, error){
	Modern:    sync.OnceValues(Modern.build),
	OldDriver: sync.OnceValues(OldDriver.build),
}

// Build returns the folder that holds the library, for LD_LIBRARY_PATH. It is
// compiled once for its sources, and kept in llmsup's cache; the test fails
// where gcc is missing.
func Build(t testing.TB, variant Variant) (dir string) {
	t.Helper()
	dir, err := built[variant]()
	if err != nil {
		t.Fatalf("build %s (%s): %v", soname, variant, err)
	}
	return dir
}

// Env is what a child needs in its environment to see the box of the figures at
// path through the library in dir. It goes after the rest: os/exec lets the
// last value of a variable win.
func Env(dir, path string) []string {
	search := dir
	if old := os.Getenv("LD_LIBRARY_PATH"); old != "" {
		search += ":" + old
	}
	return []string{"LD_LIBRARY_PATH=" + search, "LLMSUP_TEST_NVML=" + path}
}

// flags hold the sources to what a reader and a second compiler expect. Only
// what abi.h declares is exported: the program's own symbols are global to it.
var flags = []string{
	"-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror",
	"-fPIC", "-fvisibility=hidden", "-pthread",
}

// build needs no lock: it compiles beside the place, and renames.
func (v Variant) build() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	name, err := v.fingerprint()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "nvmltest", name)
	if _, err := os.Stat(filepath.Join(dir, soname)); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".new-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := v.compile(work); err != nil {
		return "", err
	}
	err = os.Rename(work, dir)
	if _, found := os.Stat(filepath.Join(dir, soname)); found == nil {
		return dir, nil // another process may have been first
	}
	return "", err
}

func (v Variant) compile(work string) error {
	if err := os.CopyFS(work, sources); err != nil {
		return err
	}
	lib := filepath.Join(work, "lib")
	if v == OldDriver {
		if err := os.Remove(filepath.Join(lib, "newer.c")); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(lib, "*.c"))
	if err != nil {
		return err
	}
	args := append([]string{`-DNVML_HEADER="abi.h"`, "-shared", "-Wl,-soname," + soname, "-o", filepath.Join(work, soname)}, flags...)
	if out, err := exec.Command("gcc", append(args, files...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc: %w: %s", err, out)
	}
	return os.RemoveAll(lib)
}

// fingerprint changes with whatever the library is made of.
func (v Variant) fingerprint() (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, v, runtime.GOARCH, strings.Join(flags, " "))
	err := fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		fmt.Fprintln(hash, path, len(text))
		hash.Write(text)
		return err
	})
	return hex.EncodeToString(hash.Sum(nil)[:8]), err
}

// cacheDir is where the scripts keep what can be had again, too.
func cacheDir() (string, error) {
	if dir := os.Getenv("LLMSUP_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "llmsup"), err
}
