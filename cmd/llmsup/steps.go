package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// stepPrinter prints the steps of a drain or a resumption as they happen: a line
// each. On a terminal those that only count calls take each other's place.
type stepPrinter struct {
	out  io.Writer
	json bool
	live bool // out is a terminal
	open bool // the last line can be taken the place of
	last control.Step
}

func newStepPrinter(out *os.File, json bool) *stepPrinter {
	return &stepPrinter{out: out, json: json, live: isTerminal(out) && !json}
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
	const clear = "\r\x1b[K"
	if p.open {
		line = clear + line
	}
	p.open = p.live && s.Step == control.StepRunning
	if !p.open {
		line += "\n"
	}
	_, err := io.WriteString(p.out, line)
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
