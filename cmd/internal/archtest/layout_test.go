package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// topLevel is all that may be at the top level, besides dot-files.
var topLevel = []string{
	"cmd", "supervisor", "router", "gpu", "models", "systemd", "scripts",
	"go.mod", "go.sum", "README.md", "LICENSE",
}

// misplaced returns what is at the top level and should not be, given the paths of a
// repository.
func misplaced(paths []string) []string {
	var violations []string
	for _, p := range paths {
		first := topOf(p)
		if strings.HasPrefix(first, ".") || slices.Contains(topLevel, first) {
			continue
		}
		if violation := fmt.Sprintf("%s does not belong at the top level: that holds %s and dot-files", first, strings.Join(topLevel, " ")); !slices.Contains(violations, violation) {
			violations = append(violations, violation)
		}
	}
	return violations
}

// vague are names that do not tell what a package is for.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "shared"}

func packageNames(tree []source) []string {
	var violations []string
	seen := map[string]bool{}
	for _, s := range tree {
		for _, name := range []string{strings.TrimSuffix(s.pkg, "_test"), path.Base(s.dir())} {
			if slices.Contains(vague, name) && !seen[s.dir()] {
				seen[s.dir()] = true
				violations = append(violations, fmt.Sprintf("%s: a package called %s can hold anything; name it after what it is for", s.dir(), name))
			}
		}
	}
	return violations
}

// packageDocs checks that each package has one doc comment, in the form that go doc
// expects.
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
	var violations []string
	for dir, files := range docs {
		switch len(files) {
		case 0:
			violations = append(violations, dir+`: no file has a comment "Package ... " (or "Command ... ") that says what it is for and who calls it`)
		case 1:
		default:
			slices.Sort(files)
			violations = append(violations, fmt.Sprintf("%s: %s each have a package comment; keep one", dir, strings.Join(files, " and ")))
		}
	}
	slices.Sort(violations)
	return violations
}
