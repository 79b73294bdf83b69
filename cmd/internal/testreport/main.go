// Command testreport turns the events of go test -json, on its standard input,
// into what a person waits for: which tests run and since when, every 20
// seconds; each package's result as go test prints it; the whole output of each
// test that failed, as soon as it has; at the end the slowest tests, those that
// failed, and the totals. scripts/test.sh starts it with the arguments that it
// gives to go test.
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

// progressEvery is the time between two reports of what runs.
const progressEvery = 20 * time.Second

func main() {
	// Ctrl-C reaches go test too, whose last events are still to be read.
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

// wantsAll reports whether arguments of go test ask for output of tests that
// pass: that is then printed as it comes.
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
