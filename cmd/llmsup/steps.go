package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// stepPrinter prints the steps of a drain or a resumption as they happen: a line
// each. On a terminal those that only count calls take each other's place.
type stepPrinter struct {
	out   io.Writer
	json  bool
	live  bool // out is a terminal
	width int  // its columns
	open  bool // the last line can be taken the place of
	last  control.Step
}

func newStepPrinter(out *os.File, json bool) *stepPrinter {
	l := lookOf(out)
	return &stepPrinter{out: out, json: json, live: l.terminal && !json, width: l.columns()}
}

// step prints one.
func (p *stepPrinter) step(s control.Step) error {
	p.last = s
	if p.json {
		return json.NewEncoder(p.out).Encode(s)
	}
	line := printable(s.Text)
	if s.Server != "" {
		line = printable(s.Server) + ": " + line
	}
	before := ""
	if p.open {
		before = "\r\x1b[K"
	}
	p.open = p.live && s.Step == control.StepRunning
	switch {
	case p.open: // in one row, which the next line can take the place of
		line = clip(line, p.width-1)
	case p.live:
		line = strings.Join(wrap(line, p.width, "  "), "\n") + "\n"
	default:
		line += "\n"
	}
	_, err := io.WriteString(p.out, before+line)
	return err
}

// ended says how it went when there are no more steps. goesOn is what happens
// without the one who has stopped watching.
func (p *stepPrinter) ended(err error, goesOn string) error {
	if p.open {
		fmt.Fprintln(p.out)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped watching; %s", goesOn)
	case err != nil && p.last.Step != "":
		return fmt.Errorf("%w; %s once llmsup runs again", err, goesOn)
	case err != nil:
		return err
	case p.last.Step == control.StepFailed, p.last.Step == control.StepCancelled:
		return errToldAlready
	case p.last.Step != control.StepDrained && p.last.Step != control.StepResumed:
		return errors.New("llmsup ended before this was done; look at its log")
	}
	return nil
}
