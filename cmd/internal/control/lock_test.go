package control

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	release, err := LockStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info.Mode(), err)
	}
	want := fmt.Sprintf("state directory %s is held by llmsup (pid %d); stop it, or pass another one with --state-dir", dir, os.Getpid())
	if _, err := LockStateDir(dir); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	release()
	again, err := LockStateDir(dir)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	again()
}

func TestLockAfterCrash(t *testing.T) {
	for name, text := range map[string]string{"an older pid": "123456789\n", "nonsense": "x\x00y", "nothing": ""} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "lock"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		release, err := LockStateDir(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if raw, _ := os.ReadFile(filepath.Join(dir, "lock")); string(raw) != fmt.Sprintf("%d\n", os.Getpid()) {
			t.Errorf("%s: the lock says %q", name, raw)
		}
		release()
	}
}

func TestLockStateDirErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	write(t, file)
	for name, dir := range map[string]string{"a file": file, "below a file": filepath.Join(file, "x")} {
		if _, err := LockStateDir(dir); err == nil || !strings.Contains(err.Error(), "not a directory; pass another one with --state-dir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
