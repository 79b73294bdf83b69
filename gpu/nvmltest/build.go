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

// soname is the file name of NVML.
const soname = "libnvidia-ml.so.1"

//go:embed lib
var sources embed.FS

// Variant is a generation of the driver.
type Variant int

const (
	// Modern has every function of the library.
	Modern Variant = iota
	// OldDriver lacks the functions that were added after about 2018 (R390 to R410), in
	// lib/newer.c. The others behave as in Modern.
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

// Build returns the directory of the library, for LD_LIBRARY_PATH. The library is compiled
// once for each version of its sources and kept in llmsup's cache. The test fails without
// gcc.
func Build(t testing.TB, variant Variant) (dir string) {
	t.Helper()
	dir, err := built[variant]()
	if err != nil {
		t.Fatalf("build %s (%s): %v", soname, variant, err)
	}
	return dir
}

// Env returns the environment variables for a child process that uses the library in dir
// and the box in the file at path. Append them to the others: os/exec uses the last value
// of a variable.
func Env(dir, path string) []string {
	search := dir
	if old := os.Getenv("LD_LIBRARY_PATH"); old != "" {
		search += ":" + old
	}
	return []string{"LD_LIBRARY_PATH=" + search, "LLMSUP_TEST_NVML=" + path}
}

// flags are gcc's. Only the functions in abi.h are exported, so that no other symbol can
// clash with one of the program.
var flags = []string{
	"-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror",
	"-fPIC", "-fvisibility=hidden", "-pthread",
}

// build needs no lock: it compiles in a temporary directory and renames that.
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
		return dir, nil // another process may have built it first
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

// fingerprint returns a hash of all that the library is built from.
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

// cacheDir returns the directory that the scripts use, too.
func cacheDir() (string, error) {
	if dir := os.Getenv("LLMSUP_CACHE_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "llmsup"), err
}
