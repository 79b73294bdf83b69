package fileedit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAddServer: the entry goes behind the servers that there are, and every other byte stays.
func TestAddServer(t *testing.T) {
	const (
		block = "  new:\n    model: \"/m/a b.gguf\"\n"
		flow  = `new: {model: "/m/a b.gguf"}`
	)
	for name, tc := range map[string]struct{ before, after, err string }{
		"nothing":         {"", "servers:\n" + block, ""},
		"no servers":      {"listen: 127.0.0.1:1 # x\n# servers:\n", "listen: 127.0.0.1:1 # x\n# servers:\nservers:\n" + block, ""},
		"CRLF":            {"max_body: 1MiB\r\n", "max_body: 1MiB\r\nservers:\r\n" + strings.ReplaceAll(block, "\n", "\r\n"), ""},
		"empty servers":   {"servers: # none\n# c\nmax_body: 1MiB\n", "servers: # none\n" + block + "# c\nmax_body: 1MiB\n", ""},
		"a block":         {"servers:\n  # mine\n  a:\n    model: /a.gguf # it\n\nroutes: {}\n", "servers:\n  # mine\n  a:\n    model: /a.gguf # it\n" + block + "\nroutes: {}\n", ""},
		"flow":            {"servers: {a: {model: /a.gguf}} # all\n", "servers: {a: {model: /a.gguf}, " + flow + "} # all\n", ""},
		"with keys":       {"keys: {k: AA}\nservers: {}\n", "keys: {k: AA}\nservers: {" + flow + "}\n", ""},
		"the same name":   {"# x\nservers:\n  new: {model: /a.gguf}\n", "", "f.yaml:3: servers.new: there is a server of this name; choose another name"},
		"an upstream":     {"upstreams: {new: {base_url: http://127.0.0.1:1/v1}}\n", "", "nothing was changed, because llmsup would reject the file: f.yaml:3: servers.new: an upstream has the same name"},
		"an alias":        {"routes: {x: {primary: openrouter, set: &s {}}}\nservers: *s\n", "", "f.yaml: the servers are written in a form that llmsup does not edit; put this below `servers:` by hand: " + flow},
		"invalid already": {"listen: 0.0.0.0:80 # without keys\n", "listen: 0.0.0.0:80 # without keys\nservers:\n" + block, ""},
		"no YAML":         {"servers: {", "", "f.yaml:1: this is not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := addServer("f.yaml", []byte(withHashes(tc.before)), "new", Server{Model: "/m/a b.gguf"})
			if string(got) != withHashes(tc.after) || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("%v\n%s\nwant %s\n%s", err, got, tc.err, withHashes(tc.after))
			}
		})
	}
	if _, _, err := addServer("f.yaml", nil, "no such/name", Server{Model: "/m.gguf"}); err == nil || !strings.Contains(err.Error(), "a server's name has") {
		t.Errorf("an invalid name: %v", err)
	}
}

// TestAddServerFile: a file that does not exist is created, and errors leave none behind.
func TestAddServerFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llmsup.yaml")
	if err := AddServer(path, "no/name", Server{Model: "/a.gguf"}); err == nil {
		t.Error("an invalid name")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an error left a file: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		if err := CheckAddServer(path, name); err != nil {
			t.Error(err)
		}
		if err := AddServer(path, name, Server{Model: "/" + name + ".gguf", Args: []string{"--mmproj", "/p q.gguf"}}); err != nil {
			t.Error(err)
		}
	}
	const want = "servers:\n  a:\n    model: \"/a.gguf\"\n    args: [\"--mmproj\", \"/p q.gguf\"]\n  b:\n    model: \"/b.gguf\"\n    args: [\"--mmproj\", \"/p q.gguf\"]\n"
	if text, err := os.ReadFile(path); err != nil || string(text) != want {
		t.Errorf("%v\n%s", err, text)
	}
	for file, want := range map[string]string{
		path:                       "servers.a: there is a server of this name",
		"/nonexistent/llmsup.yaml": "configuration /nonexistent/llmsup.yaml cannot be written: no such file or directory",
		"/proc/self/llmsup.yaml":   "configuration /proc/self/llmsup.yaml cannot be written",
		filepath.Dir(path):         "is a directory",
	} {
		if err := CheckAddServer(file, "a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
