package house

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the repository, seen from here.
const root = "../../.."

var rules = map[string]rule{
	"edges":        edges,
	"cmdEdges":     cmdEdges,
	"exclusivity":  exclusivity,
	"packageNames": packageNames,
	"packageDocs":  packageDocs,
	"fileSizes":    fileSizes(long),
}

func TestHouse(t *testing.T) {
	tree, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range tree {
		seen[s.path] = true
	}
	if !seen["cmd/internal/house/doc.go"] {
		t.Fatalf("of the %d files read at %s none is this package's own: the tree is not the repository", len(tree), root)
	}
	for name, holds := range rules {
		t.Run(name, func(t *testing.T) {
			for _, breach := range holds(tree) {
				t.Error(breach)
			}
		})
	}
}

func TestTopLevel(t *testing.T) {
	paths := repository(t)
	if strings.Join(strangers(append(paths, "stray/file.go")), "") == "" {
		t.Error("a stray file would not be noticed")
	}
	for _, breach := range strangers(paths) {
		t.Error(breach)
	}
}

// repository returns the paths that git keeps; where there is no git, as in an
// unpacked archive, what lies at the top, but for what .gitignore names.
func repository(t *testing.T) []string {
	t.Helper()
	// The owner of the checkout may be another user than the one who tests it.
	out, err := exec.Command("git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z").Output()
	if paths := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00"); err == nil && paths[0] != "" {
		return paths
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, entry := range entries {
		if name := entry.Name(); name != "bin" && !strings.HasSuffix(name, ".gguf") {
			paths = append(paths, name)
		}
	}
	return paths
}

// TestRulesCanFail runs each rule on a tree that is in order and on one that
// breaks it: a rule that can't fail holds nothing.
func TestRulesCanFail(t *testing.T) {
	const docOfA = "// Package a is for this.\npackage a\n"
	importing := func(paths ...string) string {
		text := docOfA
		for _, p := range paths {
			text += "\nimport _ \"" + p + "\"\n"
		}
		return text
	}
	cases := map[string]struct {
		rule rule
		file string
		text string
		want string // part of the only breach; "" for none
	}{
		"cmd joins all":               {edges, "cmd/internal/a/a.go", importing(module+"/router/ledger", module+"/supervisor", module+"/gpu", module+"/models", "fmt"), ""},
		"router may know models":      {edges, "router/a/a.go", importing(module+"/models/gguf", module+"/router/ledger"), ""},
		"router imports supervisor":   {edges, "router/a/a.go", importing(module + "/supervisor"), "router/a/a.go imports supervisor"},
		"supervisor imports gpu":      {edges, "supervisor/a.go", importing(module + "/gpu"), "supervisor/a.go imports gpu"},
		"gpu imports router":          {edges, "gpu/a.go", importing(module + "/router/ledger"), "gpu/a.go imports router/ledger"},
		"models imports gpu":          {edges, "models/a.go", importing(module + "/gpu"), "models/a.go imports gpu"},
		"a test imports another wing": {edges, "gpu/a_test.go", importing(module + "/router"), "gpu/a_test.go imports router"},
		"a file of another platform":  {edges, "gpu/a_windows.go", "//go:build windows\n\n" + importing(module+"/router"), "gpu/a_windows.go imports router"},
		"cmd/internal from outside":   {edges, "router/a.go", importing(module + "/cmd/internal/control"), "imports cmd/internal/control"},
		"a new wing":                  {edges, "attic/a.go", docOfA, "attic/a.go: Go code lives in"},
		"another module's router":     {edges, "gpu/a.go", importing("example.com/router"), ""},

		"graceful imports only others'":      {cmdEdges, "cmd/internal/graceful/a.go", importing("net/http", "golang.org/x/sys/unix"), ""},
		"graceful imports the router":        {cmdEdges, "cmd/internal/graceful/a.go", importing(module + "/router"), "cmd/internal/graceful/a.go imports router"},
		"its test imports the daemon":        {cmdEdges, "cmd/internal/graceful/a_test.go", importing(module + "/cmd/internal/daemon"), "imports cmd/internal/daemon"},
		"maintenance imports the supervisor": {cmdEdges, "cmd/internal/maintenance/a.go", importing(module + "/supervisor"), ""},
		"maintenance imports the gpu":        {cmdEdges, "cmd/internal/maintenance/a.go", importing(module + "/gpu"), "cmd/internal/maintenance/a.go imports gpu"},
		"placement imports maintenance":      {cmdEdges, "cmd/internal/placement/a.go", importing(module + "/cmd/internal/maintenance"), "imports cmd/internal/maintenance"},
		"the daemon joins all":               {cmdEdges, "cmd/internal/daemon/a.go", importing(module+"/cmd/internal/graceful", module+"/router"), ""},

		"supervisor starts processes":  {exclusivity, "supervisor/a.go", importing("os/exec"), ""},
		"a test starts processes":      {exclusivity, "cmd/llmsup/a_test.go", importing("os/exec"), ""},
		"cmd starts processes":         {exclusivity, "cmd/llmsup/a.go", importing("os/exec"), "cmd/llmsup/a.go imports os/exec"},
		"gpu starts processes":         {exclusivity, "gpu/a.go", importing("os/exec"), "gpu/a.go imports os/exec"},
		"a fixture starts a compiler":  {exclusivity, "gpu/nvmltest/a.go", importing("os/exec"), ""},
		"a test uses the fixture":      {exclusivity, "cmd/llmsup/a_test.go", importing(module + "/gpu/nvmltest"), ""},
		"a daemon uses the fixture":    {exclusivity, "cmd/internal/daemon/a.go", importing(module + "/gpu/nvmltest"), "a.go imports " + module + "/gpu/nvmltest"},
		"supervisors starts processes": {exclusivity, "supervisors/a.go", importing("os/exec"), "imports os/exec"},
		"NVML at home":                 {exclusivity, "gpu/nvml.go", importing("github.com/NVIDIA/go-nvml/pkg/nvml"), ""},
		"NVML elsewhere":               {exclusivity, "cmd/internal/daemon/a_test.go", importing("github.com/NVIDIA/go-nvml/pkg/nvml"), "imports github.com/NVIDIA/go-nvml"},
		"SQL at home":                  {exclusivity, "router/ledger/a.go", importing("database/sql", "modernc.org/sqlite"), ""},
		"SQL elsewhere":                {exclusivity, "router/a.go", importing("database/sql"), "router/a.go imports database/sql"},
		"a test reads the ledger":      {exclusivity, "cmd/llmsup/a_test.go", importing(module + "/router/ledger/ledgertest"), ""},
		"SQLite elsewhere":             {exclusivity, "cmd/llmsup/a_test.go", importing("modernc.org/sqlite/lib"), "imports modernc.org/sqlite"},

		"a package with a name": {packageNames, "models/a.go", docOfA, ""},
		"a vague folder":        {packageNames, "router/util/a.go", docOfA, "router/util: a package called util"},
		"a vague clause":        {packageNames, "router/a/a.go", "package helpers", "a package called helpers"},
		"a vague test":          {packageNames, "router/a/a_test.go", "package common_test", "a package called common"},

		"documented":                 {packageDocs, "router/a/a.go", docOfA, ""},
		"a documented command":       {packageDocs, "cmd/a/main.go", "// Command a does this.\npackage main", ""},
		"undocumented":               {packageDocs, "router/a/a.go", "package a", "router/a: no file has a comment"},
		"a comment apart":            {packageDocs, "router/a/a.go", "// Package a is for this.\n\npackage a", "router/a: no file has a comment"},
		"a command's bare comment":   {packageDocs, "cmd/a/main.go", "// It works.\npackage main", "cmd/a: no file has a comment"},
		"documented in a test alone": {packageDocs, "router/a/a_test.go", docOfA, "router/a: no file has a comment"},

		"a file of 400 lines": {fileSizes(nil), "router/a.go", lines(400), ""},
		"a file of 401 lines": {fileSizes(nil), "router/a.go", lines(401), "router/a.go has 401 lines"},
		"a long test":         {fileSizes(nil), "router/a_test.go", lines(900), ""},
		"generated":           {fileSizes(nil), "router/a.go", "// Code generated by a; DO NOT EDIT.\n\n" + lines(900), ""},
		"long with a reason":  {fileSizes(map[string]string{"router/a.go": "it is one table"}), "router/a.go", lines(401), ""},
		"a reason outlived":   {fileSizes(map[string]string{"router/a.go": "it is one table"}), "router/a.go", lines(9), "router/a.go is not over 400 lines any more"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tree, err := readTree(fstest.MapFS{c.file: {Data: []byte(c.text)}})
			if err != nil {
				t.Fatal(err)
			}
			breaches := c.rule(tree)
			switch {
			case len(tree) != 1:
				t.Errorf("read %d files, want 1", len(tree))
			case c.want == "" && len(breaches) > 0:
				t.Errorf("breaches %q, want none", breaches)
			case c.want != "" && (len(breaches) != 1 || !strings.Contains(breaches[0], c.want)):
				t.Errorf("breaches %q, want one with %q", breaches, c.want)
			}
		})
	}
}

// lines is a Go file of n lines.
func lines(n int) string { return "package a\n" + strings.Repeat("\n", n-1) }

func TestTwoPackageComments(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("// Package a is for this.\npackage a")}
	tree, err := readTree(fstest.MapFS{"router/a/a.go": file, "router/a/b.go": file})
	if err != nil {
		t.Fatal(err)
	}
	if breaches := packageDocs(tree); len(breaches) != 1 || !strings.Contains(breaches[0], "keep one") {
		t.Errorf("breaches %q, want one that says which to keep", breaches)
	}
}

func TestStrangers(t *testing.T) {
	ok := []string{".ci/run", ".gitignore", "LICENSE", "README.md", "go.mod", "go.sum", "cmd/llmsup/main.go", "systemd/llmsup.service"}
	if breaches := strangers(ok); len(breaches) > 0 {
		t.Errorf("breaches %q, want none", breaches)
	}
	for _, stray := range []string{"docs/a.md", "main.go", "internal/a/a.go", "Makefile", "routers/a.go"} {
		if breaches := strangers([]string{"go.mod", stray, stray}); len(breaches) != 1 || !strings.HasPrefix(breaches[0], wingOf(stray)+" ") {
			t.Errorf("with %s at the top the breaches are %q, want one", stray, breaches)
		}
	}
}

func TestReadTreeSkips(t *testing.T) {
	bad := &fstest.MapFile{Data: []byte("not Go")}
	tree, err := readTree(fstest.MapFS{"a/testdata/a.go": bad, ".cache/a.go": bad, "_old/a.go": bad, "a/.a.go": bad, "a/a.txt": bad})
	if err != nil || len(tree) != 0 {
		t.Errorf("read %d files with error %v, want none", len(tree), err)
	}
	if _, err := readTree(fstest.MapFS{"a/a.go": bad}); err == nil || !strings.Contains(err.Error(), "a/a.go") {
		t.Errorf("a file that is no Go gives error %v, want one that names it", err)
	}
}
