package process

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSocketInUse: a socket that a process listens on, or a file in its place, is not
// removed.
func TestSocketInUse(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", dir+"/live.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(dir+"/file.sock", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/dead.sock", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	for name, want := range map[string]string{"live": "another process listens", "file": "is in the way", "dead": "", "none": ""} {
		_, err := NewEndpoint(dir, name+".sock")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, remains := range map[string]bool{"live": true, "file": true, "dead": false} {
		if _, err := os.Lstat(dir + "/" + name + ".sock"); (err == nil) != remains {
			t.Errorf("%s remains: %t", name, err == nil)
		}
	}
}

// TestEndpoint: a socket where the program can listen on one and its path is short
// enough, else a port; with another key each time.
func TestEndpoint(t *testing.T) {
	dir := shortDir(t)
	long := filepath.Join(dir, strings.Repeat("x", maxSocketPath-len(dir)))
	keys := map[string]bool{}
	for name, tc := range map[string]struct{ dir, socket, network string }{
		"a socket":         {dir, "x.sock", "unix"},
		"none supported":   {dir, "", "tcp"},
		"too long a path":  {long, "x.sock", "tcp"},
		"no folder so far": {filepath.Join(dir, "new"), "x.sock", "unix"},
	} {
		e, err := NewEndpoint(tc.dir, tc.socket)
		if err != nil || e.Network != tc.network || len(e.Key) < 26 || keys[e.Key] {
			t.Errorf("%s: %s, key of %d characters, error %v; want %s", name, e.Network, len(e.Key), err, tc.network)
		}
		keys[e.Key] = true
		if want := filepath.Join(tc.dir, tc.socket); tc.network == "unix" && e.Address != want {
			t.Errorf("%s: address %s, want %s", name, e.Address, want)
		}
	}
}
