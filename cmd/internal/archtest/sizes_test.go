package archtest

import (
	"fmt"
	"slices"
)

const (
	maxFileLines    = 400 // a longer file has more than one concern
	maxFiles        = 20
	maxPackageLines = 2500
	maxMethods      = 5
)

// longFiles may be longer, each for a reason.
var longFiles = map[string]string{}

// largePackages may be larger, each for a reason.
var largePackages = map[string]string{
	"cmd/llmsup": "it has one file per command",
}

// largeInterfaces may have more methods, each for a reason; the keys are as in
// "backend.Local".
var largeInterfaces = map[string]string{}

// fileSizes checks the files that people read: no tests, and no generated code. An
// exception that is no longer needed is a violation, too.
func fileSizes(reasons map[string]string) rule {
	return func(tree []source) []string {
		var violations []string
		needed := map[string]bool{}
		for _, s := range tree {
			if s.lines <= maxFileLines || s.test() || s.generated {
				continue
			}
			needed[s.path] = true
			if reasons[s.path] == "" {
				violations = append(violations, fmt.Sprintf("%s has %d lines: split it by concern, or give its reason in cmd/internal/archtest", s.path, s.lines))
			}
		}
		for file := range reasons {
			if !needed[file] {
				violations = append(violations, fmt.Sprintf("%s is no longer over %d lines: remove its exception from cmd/internal/archtest", file, maxFileLines))
			}
		}
		slices.Sort(violations)
		return violations
	}
}

// packageSizes checks how much code a package has, without tests and generated code.
func packageSizes(reasons map[string]string) rule {
	return func(tree []source) []string {
		files, lines := map[string]int{}, map[string]int{}
		for _, s := range tree {
			if !s.test() && !s.generated {
				files[s.dir()]++
				lines[s.dir()] += s.lines
			}
		}
		var violations []string
		for dir := range reasons {
			files[dir] += 0 // so that a package that is gone is checked, too
		}
		for dir := range files {
			switch large := files[dir] > maxFiles || lines[dir] > maxPackageLines; {
			case large && reasons[dir] == "":
				violations = append(violations, fmt.Sprintf("%s has %d files with %d lines, and may have %d with %d: move one concern into a package of its own, or give its reason in cmd/internal/archtest", dir, files[dir], lines[dir], maxFiles, maxPackageLines))
			case !large && reasons[dir] != "":
				violations = append(violations, fmt.Sprintf("%s no longer has too much code: remove its exception from cmd/internal/archtest", dir))
			}
		}
		slices.Sort(violations)
		return violations
	}
}

// interfaceSizes checks how many methods an interface has itself. It may embed others.
func interfaceSizes(reasons map[string]string) rule {
	return func(tree []source) []string {
		var violations []string
		needed := map[string]bool{}
		for _, s := range tree {
			for _, typ := range s.interfaces {
				name := s.dir() + "." + typ.name
				if typ.methods <= maxMethods {
					continue
				}
				needed[name] = true
				if reasons[name] == "" {
					violations = append(violations, fmt.Sprintf("%s: the interface %s has %d methods, and may have %d: split it by what its callers need", s.path, typ.name, typ.methods, maxMethods))
				}
			}
		}
		for name := range reasons {
			if !needed[name] {
				violations = append(violations, fmt.Sprintf("%s no longer has too many methods: remove its exception from cmd/internal/archtest", name))
			}
		}
		return violations
	}
}
