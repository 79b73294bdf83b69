package archtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the repository, seen from here.
const root = "../../.."

// A rule checks the whole tree and returns one sentence for each violation.
type rule func([]source) []string

var rules = map[string]rule{
	"topLevelImports":    topLevelImports,
	"cmdInternalImports": cmdInternalImports,
	"downwardImports":    downwardImports,
	"exclusiveImports":   exclusiveImports,
	"packageNames":       packageNames,
	"packageDocs":        packageDocs,
	"fileSizes":          fileSizes(longFiles),
	"packageSizes":       packageSizes(largePackages),
	"interfaceSizes":     interfaceSizes(largeInterfaces),
	"engineDetails":      engineDetails,
}

func TestRules(t *testing.T) {
	tree, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range tree {
		seen[s.path] = true
	}
	if !seen["cmd/internal/archtest/doc.go"] {
		t.Fatalf("of the %d files read at %s none is of this package: the folder is not the repository", len(tree), root)
	}
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, violation := range check(tree) {
				t.Error(violation)
			}
		})
	}
}

func TestTopLevel(t *testing.T) {
	paths := repository(t)
	if strings.Join(misplaced(append(paths, "stray/file.go")), "") == "" {
		t.Error("a stray file would not be noticed")
	}
	for _, violation := range misplaced(paths) {
		t.Error(violation)
	}
}

// repository returns the paths that git tracks. Without git, as in an unpacked archive,
// it returns what is at the top level, except what .gitignore names.
func repository(t *testing.T) []string {
	t.Helper()
	// The checkout may belong to another user than the one who runs the test.
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

// TestRulesCanFail runs each rule on a tree that follows it and on one that violates
// it: a rule that cannot fail checks nothing.
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
		want string // part of the only violation; "" for none
	}{
		"cmd joins all":                           {topLevelImports, "cmd/internal/a/a.go", importing(module+"/router/ledger", module+"/supervisor", module+"/gpu", module+"/models", "fmt"), ""},
		"router may know models":                  {topLevelImports, "router/a/a.go", importing(module+"/models/gguf", module+"/router/ledger"), ""},
		"a test of the router runs the engine":    {topLevelImports, "router/a/a_test.go", importing(module + "/supervisor/llamacpp"), ""},
		"the router names the engine":             {topLevelImports, "router/a/a.go", importing(module + "/supervisor/llamacpp"), "router/a/a.go imports supervisor/llamacpp"},
		"router imports supervisor":               {topLevelImports, "router/a/a.go", importing(module + "/supervisor"), "router/a/a.go imports supervisor"},
		"supervisor imports gpu":                  {topLevelImports, "supervisor/a.go", importing(module + "/gpu"), "supervisor/a.go imports gpu"},
		"gpu imports router":                      {topLevelImports, "gpu/a.go", importing(module + "/router/ledger"), "gpu/a.go imports router/ledger"},
		"models imports gpu":                      {topLevelImports, "models/a.go", importing(module + "/gpu"), "models/a.go imports gpu"},
		"a test imports another top-level folder": {topLevelImports, "gpu/a_test.go", importing(module + "/router"), "gpu/a_test.go imports router"},
		"a file of another platform":              {topLevelImports, "gpu/a_windows.go", "//go:build windows\n\n" + importing(module+"/router"), "gpu/a_windows.go imports router"},
		"cmd/internal from outside":               {topLevelImports, "router/a.go", importing(module + "/cmd/internal/control"), "imports cmd/internal/control"},
		"a new top-level folder":                  {topLevelImports, "attic/a.go", docOfA, "attic/a.go: Go code lives in"},
		"another module's router":                 {topLevelImports, "gpu/a.go", importing("example.com/router"), ""},

		"graceful imports only others'":      {cmdInternalImports, "cmd/internal/graceful/a.go", importing("net/http", "golang.org/x/sys/unix"), ""},
		"graceful imports the router":        {cmdInternalImports, "cmd/internal/graceful/a.go", importing(module + "/router"), "cmd/internal/graceful/a.go imports router"},
		"its test imports the daemon":        {cmdInternalImports, "cmd/internal/graceful/a_test.go", importing(module + "/cmd/internal/daemon"), "imports cmd/internal/daemon"},
		"maintenance imports the supervisor": {cmdInternalImports, "cmd/internal/maintenance/a.go", importing(module + "/supervisor"), ""},
		"maintenance imports the gpu":        {cmdInternalImports, "cmd/internal/maintenance/a.go", importing(module + "/gpu"), "cmd/internal/maintenance/a.go imports gpu"},
		"placement imports maintenance":      {cmdInternalImports, "cmd/internal/placement/a.go", importing(module + "/cmd/internal/maintenance"), "imports cmd/internal/maintenance"},
		"the daemon joins all":               {cmdInternalImports, "cmd/internal/daemon/a.go", importing(module+"/cmd/internal/graceful", module+"/router"), ""},

		"supervisor starts processes":  {exclusiveImports, "supervisor/a.go", importing("os/exec"), ""},
		"a test starts processes":      {exclusiveImports, "cmd/llmsup/a_test.go", importing("os/exec"), ""},
		"cmd starts processes":         {exclusiveImports, "cmd/llmsup/a.go", importing("os/exec"), "cmd/llmsup/a.go imports os/exec"},
		"gpu starts processes":         {exclusiveImports, "gpu/a.go", importing("os/exec"), "gpu/a.go imports os/exec"},
		"a fixture starts a compiler":  {exclusiveImports, "gpu/nvmltest/a.go", importing("os/exec"), ""},
		"a test uses the fixture":      {exclusiveImports, "cmd/llmsup/a_test.go", importing(module + "/gpu/nvmltest"), ""},
		"a daemon uses the fixture":    {exclusiveImports, "cmd/internal/daemon/a.go", importing(module + "/gpu/nvmltest"), "a.go imports " + module + "/gpu/nvmltest"},
		"supervisors starts processes": {exclusiveImports, "supervisors/a.go", importing("os/exec"), "imports os/exec"},
		"NVML at home":                 {exclusiveImports, "gpu/nvml.go", importing("github.com/NVIDIA/go-nvml/pkg/nvml"), ""},
		"NVML elsewhere":               {exclusiveImports, "cmd/internal/daemon/a_test.go", importing("github.com/NVIDIA/go-nvml/pkg/nvml"), "imports github.com/NVIDIA/go-nvml"},
		"SQL at home":                  {exclusiveImports, "router/ledger/a.go", importing("database/sql", "modernc.org/sqlite"), ""},
		"SQL elsewhere":                {exclusiveImports, "router/a.go", importing("database/sql"), "router/a.go imports database/sql"},
		"a test reads the ledger":      {exclusiveImports, "cmd/llmsup/a_test.go", importing(module + "/router/ledger/ledgertest"), ""},
		"SQLite elsewhere":             {exclusiveImports, "cmd/llmsup/a_test.go", importing("modernc.org/sqlite/lib"), "imports modernc.org/sqlite"},

		"the retries' file": {exclusiveImports, retryFiles[0], importing("github.com/hashicorp/go-retryablehttp"), ""},
		"retries elsewhere": {exclusiveImports, "router/a.go", importing("github.com/hashicorp/go-retryablehttp"), "router/a.go imports github.com/hashicorp/go-retryablehttp"},

		"a lower layer":     {downwardImports, "router/wire/a.go", importing(module + "/router/usd"), ""},
		"a higher layer":    {downwardImports, "router/wire/a.go", importing(module + "/router"), "router/wire/a.go imports router, which is not in a layer below"},
		"the same layer":    {downwardImports, "router/access/a.go", importing(module + "/router/resume"), "imports router/resume"},
		"a package without": {downwardImports, "router/new/a.go", docOfA, "router/new/a.go: add router/new to layers"},
		"a test of a layer": {downwardImports, "router/wire/a_test.go", importing(module + "/router"), ""},

		"five methods":       {interfaceSizes(nil), "router/a.go", interfaceOf(5), ""},
		"six methods":        {interfaceSizes(nil), "router/a.go", interfaceOf(6), "router/a.go: the interface A has 6 methods"},
		"six with a reason":  {interfaceSizes(map[string]string{"router.A": "it is the library's"}), "router/a.go", interfaceOf(6), ""},
		"a reason for five":  {interfaceSizes(map[string]string{"router.A": "it is the library's"}), "router/a.go", interfaceOf(5), "router.A no longer has too many methods"},
		"three and two more": {interfaceSizes(nil), "router/a.go", "package a\n\ntype A interface{ B; C; m0(); m1(); m2() }", ""},

		"2,500 lines":         {packageSizes(nil), "router/a.go", lines(2500), ""},
		"2,501 lines":         {packageSizes(nil), "router/a.go", lines(2501), "router has 1 files with 2501 lines"},
		"lines of a test":     {packageSizes(nil), "router/a_test.go", lines(2501), ""},
		"large with a reason": {packageSizes(map[string]string{"router": "it is one table"}), "router/a.go", lines(2501), ""},
		"small with a reason": {packageSizes(map[string]string{"router": "it is one table"}), "router/a.go", lines(9), "router no longer has too much code"},

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

		"a file of 400 lines":                {fileSizes(nil), "router/a.go", lines(400), ""},
		"a file of 401 lines":                {fileSizes(nil), "router/a.go", lines(401), "router/a.go has 401 lines"},
		"a long test":                        {fileSizes(nil), "router/a_test.go", lines(900), ""},
		"generated":                          {fileSizes(nil), "router/a.go", "// Code generated by a; DO NOT EDIT.\n\n" + lines(900), ""},
		"long with a reason":                 {fileSizes(map[string]string{"router/a.go": "it is one table"}), "router/a.go", lines(401), ""},
		"llama-server's path in its package": {engineDetails, "supervisor/llamacpp/a.go", literal("/slots"), ""},
		"llama-server's path":                {engineDetails, "supervisor/a.go", literal("/slots"), `supervisor/a.go has "/slots"`},
		"llama-server's flag":                {engineDetails, "cmd/llmsup/a.go", literal("--threads"), `cmd/llmsup/a.go has "--threads"`},
		"llama-server's metric":              {engineDetails, "cmd/llmsup/a.go", literal("llamacpp:n_decode_total"), "a detail of llama-server"},
		"llama-server's path in a test":      {engineDetails, "router/a_test.go", literal("/slots"), ""},
		"llmsup's own flag":                  {engineDetails, "cmd/llmsup/a.go", literal("lower --ctx-size"), ""},

		"an exception too many": {fileSizes(map[string]string{"router/a.go": "it is one table"}), "router/a.go", lines(9), "router/a.go is no longer over 400 lines"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tree, err := readTree(fstest.MapFS{c.file: {Data: []byte(c.text)}})
			if err != nil {
				t.Fatal(err)
			}
			violations := c.rule(tree)
			switch {
			case len(tree) != 1:
				t.Errorf("read %d files, want 1", len(tree))
			case c.want == "" && len(violations) > 0:
				t.Errorf("violations %q, want none", violations)
			case c.want != "" && (len(violations) != 1 || !strings.Contains(violations[0], c.want)):
				t.Errorf("violations %q, want one with %q", violations, c.want)
			}
		})
	}
}

// literal is a Go file with a string literal.
func literal(s string) string { return fmt.Sprintf("package a\n\nconst text = %q\n", s) }

// lines is a Go file of n lines.
func lines(n int) string { return "package a\n" + strings.Repeat("\n", n-1) }

// interfaceOf is a Go file with an interface of n methods.
func interfaceOf(n int) string {
	text := "package a\n\ntype A interface {\n"
	for i := range n {
		text += fmt.Sprintf("\tm%d()\n", i)
	}
	return text + "}\n"
}

func TestManyFiles(t *testing.T) {
	tree := make([]source, maxFiles+1)
	for i := range tree {
		tree[i] = source{path: fmt.Sprintf("router/f%d.go", i)}
	}
	if violations := packageSizes(nil)(tree); len(violations) != 1 || !strings.HasPrefix(violations[0], "router has 21 files") {
		t.Errorf("%q", violations)
	}
	if violations := packageSizes(nil)(tree[1:]); len(violations) != 0 {
		t.Errorf("%q", violations)
	}
}

func TestTwoPackageComments(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("// Package a is for this.\npackage a")}
	tree, err := readTree(fstest.MapFS{"router/a/a.go": file, "router/a/b.go": file})
	if err != nil {
		t.Fatal(err)
	}
	if violations := packageDocs(tree); len(violations) != 1 || !strings.Contains(violations[0], "keep one") {
		t.Errorf("violations %q, want one that says which to keep", violations)
	}
}

func TestMisplaced(t *testing.T) {
	ok := []string{".ci/run", ".gitignore", "LICENSE", "README.md", "go.mod", "go.sum", "cmd/llmsup/main.go", "systemd/llmsup.service"}
	if violations := misplaced(ok); len(violations) > 0 {
		t.Errorf("violations %q, want none", violations)
	}
	for _, stray := range []string{"docs/a.md", "main.go", "internal/a/a.go", "Makefile", "routers/a.go"} {
		if violations := misplaced([]string{"go.mod", stray, stray}); len(violations) != 1 || !strings.HasPrefix(violations[0], topOf(stray)+" ") {
			t.Errorf("with %s at the top the violations are %q, want one", stray, violations)
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
