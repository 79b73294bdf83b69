package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is what go test -json prints (go doc test2json), and, with ImportPath,
// go build -json (go help buildjson).
type event struct {
	Time       time.Time
	Action     string
	Package    string
	Test       string
	Elapsed    float64 // seconds
	Output     string
	ImportPath string
}

// report is the state of the tests after the events so far.
type report struct {
	out     io.Writer
	verbose bool   // print all output at once
	module  string // prefix that is removed from the names of packages
	began   time.Time

	packages                map[string]*pkg // that are running
	results                 []result        // of tests without subtests
	passed, failed, skipped int
	failures                []string
}

// pkg is a package with running tests.
type pkg struct {
	began  time.Time
	tests  map[string]*test // that have begun and not ended
	output []byte           // outside of tests
	failed bool             // a test of it has failed
}

// test is a test that has begun.
type test struct {
	since  time.Time // when it began, or continued after a pause
	paused bool      // it waits for other parallel tests
	parent bool      // it has subtests
	output []byte
}

// result is the duration of a test.
type result struct {
	name     string
	duration time.Duration
}

func newReport(out io.Writer, now time.Time) *report {
	return &report{out: out, began: now, packages: map[string]*pkg{}}
}

// line processes a line of go test's output. A line that is not an event is printed.
func (r *report) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		_, _ = r.out.Write(line)
		return
	}
	if e.Action == "build-output" {
		r.print(e.Output)
	}
	if e.Package == "" {
		return
	}
	p := r.packages[e.Package]
	if p == nil {
		p = &pkg{began: e.Time, tests: map[string]*test{}}
		r.packages[e.Package] = p
	}
	switch {
	case e.Action == "output":
		r.output(p, e)
	case e.Test != "":
		r.test(p, e)
	case e.Action == "fail" || e.Action == "pass" || e.Action == "skip":
		r.end(p, e)
	}
}

// output prints the output of a test or a package, or keeps it until the test or package
// fails or passes.
func (r *report) output(p *pkg, e event) {
	t := p.tests[e.Test]
	switch {
	case r.verbose:
		r.print(e.Output)
	case t != nil:
		if !isStep(e.Output) {
			t.output = append(t.output, e.Output...)
		}
	case e.Test == "" && isResult(e.Output):
		if strings.HasPrefix(e.Output, "FAIL") {
			r.flush(p, e.Package)
		}
		r.print(e.Output)
	case e.Test == "" && (e.Output == "PASS\n" || e.Output == "FAIL\n"):
	default:
		p.output = append(p.output, e.Output...)
	}
}

// isStep reports whether a line is one of the testing package about the progress of a
// test, which the events also contain.
func isStep(line string) bool {
	word, _, _ := strings.Cut(strings.TrimPrefix(line, "=== "), " ")
	return strings.HasPrefix(line, "=== ") && slices.Contains([]string{"RUN", "PAUSE", "CONT", "NAME"}, word)
}

// isResult reports whether a line is go test's result of a package.
func isResult(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t")
}

// flush prints the kept output of a failed package: that of tests that have not ended, and
// that outside of tests.
func (r *report) flush(p *pkg, name string) {
	for _, test := range sortedNames(p.tests) {
		r.failure(name, test, p.tests[test].output)
		p.tests[test].output = nil
	}
	r.failure(name, "", p.output)
	p.output = nil
}

// failure prints the output of a failed test or package after a line with its name, since
// several packages run at the same time.
func (r *report) failure(pkg, test string, output []byte) {
	if len(output) == 0 {
		return
	}
	r.print("failed: " + r.name(pkg, test) + "\n" + string(output))
	if output[len(output)-1] != '\n' {
		r.print("\n")
	}
}

// test processes an event of a test.
func (r *report) test(p *pkg, e event) {
	t := p.tests[e.Test]
	switch e.Action {
	case "run":
		p.tests[e.Test] = &test{since: e.Time}
		for i, c := range e.Test {
			if above := p.tests[e.Test[:i]]; c == '/' && above != nil {
				above.parent = true
			}
		}
		return
	case "pause", "cont":
		if t != nil {
			t.paused, t.since = e.Action == "pause", e.Time
		}
		return
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
	case "fail":
		r.fail(p, e.Package, e.Test)
		if t != nil {
			r.failure(e.Package, e.Test, t.output)
		}
	default: // bench, attr
		return
	}
	if t == nil || !t.parent {
		r.results = append(r.results, result{r.name(e.Package, e.Test), time.Duration(e.Elapsed * float64(time.Second))})
	}
	delete(p.tests, e.Test)
}

func (r *report) fail(p *pkg, pkg, test string) {
	p.failed = true
	r.failed++
	r.failures = append(r.failures, r.name(pkg, test))
}

// end processes the end of a package. If the package has failed, so have its running
// tests; without a failed test, the package itself has failed: it does not build, or it
// exited.
func (r *report) end(p *pkg, e event) {
	if e.Action == "fail" {
		r.flush(p, e.Package)
		for _, name := range sortedNames(p.tests) {
			if !p.tests[name].paused {
				r.fail(p, e.Package, name)
			}
		}
		if !p.failed {
			r.fail(p, e.Package, "")
		}
	}
	delete(r.packages, e.Package)
}

// maxRunning limits the running tests of a package in a report of progress, and maxSlow
// the slowest tests in the summary.
const (
	maxRunning = 3
	maxSlow    = 10
)

// progress prints the running tests.
func (r *report) progress(now time.Time) {
	fmt.Fprintf(r.out, "[%s] %s", seconds(now.Sub(r.began)), r.totals())
	if len(r.packages) == 0 {
		fmt.Fprintln(r.out, "; no test is running: go builds the next packages")
		return
	}
	fmt.Fprintln(r.out, "; running:")
	for _, name := range sortedNames(r.packages) {
		p := r.packages[name]
		var running []result
		for name, t := range p.tests {
			if !t.paused && !t.parent {
				running = append(running, result{name, now.Sub(t.since)})
			}
		}
		slowestFirst(running)
		var tests []string
		for _, t := range running[:min(len(running), maxRunning)] {
			tests = append(tests, fmt.Sprintf("%s %s", t.name, seconds(t.duration)))
		}
		if more := len(running) - maxRunning; more > 0 {
			tests = append(tests, fmt.Sprintf("%d more", more))
		}
		fmt.Fprintf(r.out, "    %s (%s): %s\n", r.name(name, ""), seconds(now.Sub(p.began)), strings.Join(tests, ", "))
	}
}

// summary prints the slowest tests, the failed ones, and the totals.
func (r *report) summary() {
	if len(r.results) > 0 {
		fmt.Fprintln(r.out, "\nslowest tests:")
		slowestFirst(r.results)
		for _, t := range r.results[:min(len(r.results), maxSlow)] {
			fmt.Fprintf(r.out, "%8.2fs  %s\n", t.duration.Seconds(), t.name)
		}
	}
	for i, name := range r.failures {
		if i == 0 {
			fmt.Fprintln(r.out, "\nfailed:")
		}
		fmt.Fprintln(r.out, "    "+name)
	}
	fmt.Fprintf(r.out, "\n%s\n", r.totals())
}

func (r *report) totals() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", r.passed, r.failed, r.skipped)
}

func (r *report) print(text string) { _, _ = io.WriteString(r.out, text) }

// name returns the name of a test or a package, with its path within the module.
func (r *report) name(pkg, test string) string {
	pkg = strings.TrimPrefix(pkg, r.module+"/")
	return strings.TrimSpace(pkg + " " + test)
}

func slowestFirst(list []result) {
	slices.SortFunc(list, func(a, b result) int { return cmp.Or(cmp.Compare(b.duration, a.duration), cmp.Compare(a.name, b.name)) })
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// seconds formats a duration in whole seconds.
func seconds(d time.Duration) string { return d.Truncate(time.Second).String() }
