package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// TestPullAdd: the model becomes a server of the file, whose other lines stay, and of a running
// daemon.
func TestPullAdd(t *testing.T) {
	t.Parallel()
	model := demoContent(t)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: append(hubtest.Split(t, model, "m-F32", 2), hubtest.File{Path: "m-Q4_K_M.gguf", Content: model}, hubtest.File{Path: "mmproj-F16.gguf", Content: model})})
	file := newTestConfig(t, "# mine\nservers: # all\n  # the first\n  one: {model: hf:a/b:F32} # it\n\nledger: {enabled: false}\n")
	in := launch(t, h.Environment(), "--config", file.path)
	in.awaitState("one", "ready", "")
	got := pull(t, h, in.state, nil, "hf:a/b:Q4_K_M", "--add", "two", "--config", file.path, "--control-socket", in.state+"/c.sock")
	path := filepath.Join(in.state, "models/a/b/m-Q4_K_M.gguf")
	if got.code != 0 || got.out != path+"\n" || !strings.Contains(got.stderr, "server two was added to "+file.path+"; its calls name the model") || !strings.Contains(got.stderr, "server two: added, and starting") {
		t.Errorf("%+v", got)
	}
	in.awaitState("two", "ready", "")
	const want = "# mine\nservers: # all\n  # the first\n  one: {model: hf:a/b:F32} # it\n  two:\n    model: "
	text, err := os.ReadFile(file.path)
	if err != nil || !strings.HasPrefix(string(text), want) || !strings.HasSuffix(string(text), path+"\"\n\nledger: {enabled: false}\n") {
		t.Errorf("%v\n%s", err, text)
	}

	h.SetIntercept(func(http.ResponseWriter, *http.Request) bool { // during the download
		file.write("servers: {three: {model: /m.gguf}}\n")
		return false
	})
	got = pull(t, h, in.state, nil, "hf:a/b:Q4_K_M", "--add", "three", "--config", file.path, "--control-socket", in.state+"/c.sock")
	h.SetIntercept(nil)
	if got.code != 1 || got.out != path+"\n" || !strings.Contains(got.stderr, "llmsup: the model is downloaded, to "+path+": ") || !strings.Contains(got.stderr, "there is a server of this name") {
		t.Errorf("%+v", got)
	}
	file.write(string(text))

	served := h.Served()
	elsewhere := filepath.Join(t.TempDir(), "new.yaml")
	for name, tc := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"a name that is taken":       {[]string{"two", "--config", file.path}, 1, "servers.two: there is a server of this name"},
		"no valid name":              {[]string{"a/b", "--config", file.path}, 1, "a server's name has at most 100 letters"},
		"no name":                    {[]string{"", "--config", file.path}, 2, "--add takes the name of the new server"},
		"a folder that is not there": {[]string{"x", "--config", "/nonexistent/x.yaml"}, 1, "configuration /nonexistent/x.yaml cannot be written: no such file or directory"},
	} {
		if got := pull(t, h, t.TempDir(), nil, append([]string{"hf:a/b:F32", "--add"}, tc.args...)...); got.code != tc.code || got.out != "" || !strings.Contains(got.stderr, tc.stderr) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if h.Served() != served {
		t.Error("a model was downloaded although it cannot be added")
	}
	got = pull(t, h, t.TempDir(), nil, "hf:a/b:Q4_K_M", "--mmproj", "--add", "x", "--config", elsewhere, "--control-socket", "/nonexistent/c.sock")
	if text, err := os.ReadFile(elsewhere); got.code != 0 || err != nil || !strings.Contains(string(text), "args: [\"--mmproj\", ") || !strings.Contains(strings.Join(strings.Fields(got.stderr), " "), "no llmsup runs here; llmsup start --config "+elsewhere+" uses it") {
		t.Errorf("%+v, %v\n%s", got, err, text)
	}
	got = pull(t, h, in.state, nil, "hf:a/b:Q4_K_M", "--add", "y", "--config", elsewhere, "--control-socket", in.state+"/c.sock")
	if got.code != 0 || !strings.Contains(strings.Join(strings.Fields(got.stderr), " "), "the running llmsup uses another configuration file") {
		t.Errorf("%+v", got)
	}
}
