package house

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A rule looks at the whole tree and returns one sentence for each breach.
type rule func([]source) []string

// topLevel is all that may lie beside the dot-files.
var topLevel = []string{
	"cmd", "supervisor", "router", "gpu", "models", "systemd", "scripts",
	"go.mod", "go.sum", "README.md", "LICENSE",
}

// wings says what the packages of each part of the house may import of the
// others. Only cmd joins them.
var wings = map[string][]string{
	"cmd":        {"supervisor", "router", "gpu", "models", "systemd"},
	"supervisor": {"models"},
	"router":     {"models"},
	"gpu":        {"models"},
	"models":     nil,
	"systemd":    nil,
}

// edges holds the imports between the wings, in tests as well: a test that
// needs two of them belongs in cmd. That cmd/internal stays inside cmd follows.
func edges(tree []source) []string {
	var breaches []string
	for _, s := range tree {
		allowed, known := wings[s.wing()]
		if !known {
			breaches = append(breaches, fmt.Sprintf("%s: Go code lives in cmd, supervisor, router, gpu, models or systemd", s.path))
			continue
		}
		for _, imported := range s.imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if to := wingOf(inside); ours && to != s.wing() && !slices.Contains(allowed, to) {
				breaches = append(breaches, fmt.Sprintf("%s imports %s: only cmd joins the packages; put an interface into %s, and join them in cmd/internal/daemon", s.path, inside, s.wing()))
			}
		}
	}
	return breaches
}

// cmdPackages says what some packages of cmd/internal may import of this module, below
// the package that joins them all. In a test they may use no more.
var cmdPackages = map[string][]string{
	"cmd/internal/graceful":    nil,
	"cmd/internal/maintenance": {"cmd/internal/control", "supervisor"},
	"cmd/internal/placement":   {"cmd/internal/config", "gpu", "models/gguf", "models/vram", "supervisor"},
}

// cmdEdges holds the imports of these packages: what they decide must not depend on the
// daemon, or on each other.
func cmdEdges(tree []source) []string {
	var breaches []string
	for _, s := range tree {
		allowed, known := cmdPackages[s.dir()]
		if !known {
			continue
		}
		for _, imported := range s.imports {
			inside, ours := strings.CutPrefix(imported, module+"/")
			if ours && inside != s.dir() && !slices.Contains(allowed, inside) {
				breaches = append(breaches, fmt.Sprintf("%s imports %s: put an interface into %s, and join them in cmd/internal/daemon", s.path, inside, s.dir()))
			}
		}
	}
	return breaches
}

// exclusive is a library that one place alone may use.
type exclusive struct {
	library  string // an import path, and all below it
	home     string // a folder, and all below it
	also     string // the same, for test support that is no test itself; or ""
	testsToo bool   // else a test may use it anywhere
	instead  string
}

var exclusives = []exclusive{
	{library: "os/exec", home: "supervisor", also: "gpu/nvmltest", instead: "only supervisor starts processes, so that none is ever orphaned"},
	{library: module + "/gpu/nvmltest", home: "gpu/nvmltest", instead: "it runs a compiler, and is for tests alone"},
	{library: module + "/models/demo/demotest", home: "models/demo/demotest", instead: "it is for tests alone"},
	{library: module + "/router/ledger/ledgertest", home: "router/ledger/ledgertest", instead: "it is for tests alone"},
	{library: "github.com/NVIDIA/go-nvml", home: "gpu", testsToo: true, instead: "use package gpu, which also works without a GPU"},
	{library: "database/sql", home: "router/ledger", testsToo: true, instead: "use package router/ledger"},
	{library: "modernc.org/sqlite", home: "router/ledger", testsToo: true, instead: "use package router/ledger"},
}

func exclusivity(tree []source) []string {
	var breaches []string
	for _, s := range tree {
		for _, e := range exclusives {
			if within(s.path, e.home) || (e.also != "" && within(s.path, e.also)) || (s.test() && !e.testsToo) {
				continue
			}
			if slices.ContainsFunc(s.imports, func(imported string) bool { return within(imported, e.library) }) {
				breaches = append(breaches, fmt.Sprintf("%s imports %s: %s", s.path, e.library, e.instead))
			}
		}
	}
	return breaches
}

// within says whether a path is a folder or lies below it.
func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

// vague are names that say nothing of what a package is for.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "shared"}

func packageNames(tree []source) []string {
	var breaches []string
	seen := map[string]bool{}
	for _, s := range tree {
		for _, name := range []string{strings.TrimSuffix(s.pkg, "_test"), path.Base(s.dir())} {
			if slices.Contains(vague, name) && !seen[s.dir()] {
				seen[s.dir()] = true
				breaches = append(breaches, fmt.Sprintf("%s: a package called %s can hold anything; name it after what it is for", s.dir(), name))
			}
		}
	}
	return breaches
}

// packageDocs wants one comment a package, in the form that go doc expects.
func packageDocs(tree []source) []string {
	docs := map[string][]string{}
	for _, s := range tree {
		dir := s.dir()
		if _, known := docs[dir]; !known {
			docs[dir] = nil
		}
		start := "Package " + s.pkg + " "
		if s.pkg == "main" {
			start = "Command " + path.Base(dir) + " "
		}
		if strings.HasPrefix(s.doc, start) && !s.test() {
			docs[dir] = append(docs[dir], s.path)
		}
	}
	var breaches []string
	for dir, files := range docs {
		switch len(files) {
		case 0:
			breaches = append(breaches, dir+`: no file has a comment "Package ... " (or "Command ... ") that says what it is for and who calls it`)
		case 1:
		default:
			slices.Sort(files)
			breaches = append(breaches, fmt.Sprintf("%s: %s each hold a package comment; keep one", dir, strings.Join(files, " and ")))
		}
	}
	slices.Sort(breaches)
	return breaches
}

// maxLines is where a file is surely more than one concern.
const maxLines = 400

// long are files that may be longer, each with its reason.
var long = map[string]string{}

// fileSizes looks at what people read: not at tests, nor at generated code.
// The reasons for exceptions must still be needed.
func fileSizes(reasons map[string]string) rule {
	return func(tree []source) []string {
		var breaches []string
		needed := map[string]bool{}
		for _, s := range tree {
			if s.lines <= maxLines || s.test() || s.generated {
				continue
			}
			needed[s.path] = true
			if reasons[s.path] == "" {
				breaches = append(breaches, fmt.Sprintf("%s has %d lines: split it by concern, or give its reason in cmd/internal/house", s.path, s.lines))
			}
		}
		for file := range reasons {
			if !needed[file] {
				breaches = append(breaches, fmt.Sprintf("%s is not over %d lines any more: take its reason out of cmd/internal/house", file, maxLines))
			}
		}
		slices.Sort(breaches)
		return breaches
	}
}

// strangers returns what lies at the top level and should not, given the paths
// of a repository.
func strangers(paths []string) []string {
	var breaches []string
	for _, p := range paths {
		first := wingOf(p)
		if strings.HasPrefix(first, ".") || slices.Contains(topLevel, first) {
			continue
		}
		if breach := fmt.Sprintf("%s does not belong at the top level: that holds %s and dot-files", first, strings.Join(topLevel, " ")); !slices.Contains(breaches, breach) {
			breaches = append(breaches, breach)
		}
	}
	return breaches
}
