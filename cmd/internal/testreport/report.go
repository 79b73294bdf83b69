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

// report is what the events so far have told.
type report struct {
	out     io.Writer
	verbose bool   // print all output as it comes
	module  string // taken off the names of packages in progress and summary
	began   time.Time

	packages                map[string]*pkg // that run
	results                 []result        // of tests without subtests
	passed, failed, skipped int
	failures                []string
}

// pkg is a package whose tests run.
type pkg struct {
	began  time.Time
	tests  map[string]*test // that have begun and not ended
	output []byte           // of no test
	failed bool             // one of its tests has
}

// test is a test that has begun.
type test struct {
	since  time.Time // when it began, or went on after it was paused
	paused bool      // it waits for its turn among the parallel ones
	parent bool      // it has subtests
	output []byte
}

// result is how long a test took.
type result struct {
	name string
	took time.Duration
}

func newReport(out io.Writer, now time.Time) *report {
	return &report{out: out, began: now, packages: map[string]*pkg{}}
}

// line takes a line of go test's output. One that is no event is printed.
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

// output prints what a test or a package printed, or keeps it until it is known
// whether that fails.
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

// isStep reports whether a line is the testing package's own word on how far a
// test is, which the events tell as well.
func isStep(line string) bool {
	word, _, _ := strings.Cut(strings.TrimPrefix(line, "=== "), " ")
	return strings.HasPrefix(line, "=== ") && slices.Contains([]string{"RUN", "PAUSE", "CONT", "NAME"}, word)
}

// isResult reports whether a line is go test's last one for a package.
func isResult(line string) bool {
	return strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t")
}

// flush prints what a failed package has printed and what is not yet printed of
// it: in tests that have not ended, and outside of its tests.
func (r *report) flush(p *pkg, name string) {
	for _, test := range sortedNames(p.tests) {
		r.failure(name, test, p.tests[test].output)
		p.tests[test].output = nil
	}
	r.failure(name, "", p.output)
	p.output = nil
}

// failure prints the output of what has failed, after a line that names it:
// several packages run at a time.
func (r *report) failure(pkg, test string, output []byte) {
	if len(output) == 0 {
		return
	}
	r.print("failed: " + r.name(pkg, test) + "\n" + string(output))
	if output[len(output)-1] != '\n' {
		r.print("\n")
	}
}

// test follows a test of a package.
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

// end ends a package. Those of its tests that ran when it failed have failed, and
// so has the package itself if no test has: it does not build, or it exits.
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

// mostShown is how many of a package's tests a report of what runs names, and
// mostSlow how many tests the summary does.
const (
	mostShown = 3
	mostSlow  = 10
)

// progress prints what runs.
func (r *report) progress(now time.Time) {
	fmt.Fprintf(r.out, "[%s] %s", span(now.Sub(r.began)), r.totals())
	if len(r.packages) == 0 {
		fmt.Fprintln(r.out, "; no test runs: go builds the next packages")
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
		for _, t := range running[:min(len(running), mostShown)] {
			tests = append(tests, fmt.Sprintf("%s %s", t.name, span(t.took)))
		}
		if more := len(running) - mostShown; more > 0 {
			tests = append(tests, fmt.Sprintf("%d more", more))
		}
		fmt.Fprintf(r.out, "    %s (%s): %s\n", r.name(name, ""), span(now.Sub(p.began)), strings.Join(tests, ", "))
	}
}

// summary prints the slowest tests, those that failed, and the totals.
func (r *report) summary() {
	if len(r.results) > 0 {
		fmt.Fprintln(r.out, "\nslowest tests:")
		slowestFirst(r.results)
		for _, t := range r.results[:min(len(r.results), mostSlow)] {
			fmt.Fprintf(r.out, "%8.2fs  %s\n", t.took.Seconds(), t.name)
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

// name names a test, or a package, by its path within the module.
func (r *report) name(pkg, test string) string {
	pkg = strings.TrimPrefix(pkg, r.module+"/")
	return strings.TrimSpace(pkg + " " + test)
}

func slowestFirst(list []result) {
	slices.SortFunc(list, func(a, b result) int { return cmp.Or(cmp.Compare(b.took, a.took), cmp.Compare(a.name, b.name)) })
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// span is a duration in whole seconds.
func span(d time.Duration) string { return d.Truncate(time.Second).String() }
