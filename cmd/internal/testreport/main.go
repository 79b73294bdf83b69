// Command testreport prints the events of go test -json, from its standard input, for
// people: every 20 seconds the running tests; each package's result as go test prints it;
// the output of each failed test as soon as it fails; at the end the slowest tests, the
// failed ones, and the totals. scripts/test.sh starts it with the arguments that it passes
// to go test.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"
)

// progressEvery is the interval between reports of the running tests.
const progressEvery = 20 * time.Second

func main() {
	// Ctrl-C also reaches go test, whose last events have to be read.
	signal.Ignore(os.Interrupt)
	r := newReport(os.Stdout, time.Now())
	r.verbose = wantsAll(os.Args[1:])
	if info, ok := debug.ReadBuildInfo(); ok {
		r.module = info.Main.Path
	}
	if err := r.run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport: read the events of go test:", err)
		os.Exit(1)
	}
}

// wantsAll reports whether arguments of go test request the output of passing tests, which
// is then printed at once.
func wantsAll(args []string) bool {
	for _, arg := range args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case !strings.HasPrefix(arg, "-"):
			continue
		case name == "args":
			return false
		}
		switch strings.TrimPrefix(name, "test.") {
		case "v":
			return value != "false" && value != "0"
		case "bench", "fuzz", "list":
			return true
		}
	}
	return false
}

// run reports until the events end.
func (r *report) run(events io.Reader) error {
	lines := make(chan []byte)
	ended := make(chan error, 1)
	go func() {
		for in := bufio.NewReader(events); ; {
			line, err := in.ReadBytes('\n')
			if len(line) > 0 {
				lines <- line
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case line := <-lines:
			r.line(line)
		case now := <-tick.C:
			r.progress(now)
		case err := <-ended:
			r.summary()
			if err != io.EOF { //nolint:errorlint // as ReadBytes returns it
				return err
			}
			return nil
		}
	}
}
