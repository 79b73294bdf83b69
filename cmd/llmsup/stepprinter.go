package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// stepPrinter prints the steps of a drain, resume, restart, load or unload as they happen, one per
// line. On a terminal a step that counts running calls replaces the one before.
type stepPrinter struct {
	out         io.Writer
	json        bool
	live        bool // out is a terminal
	width       int  // columns of the terminal
	replaceable bool // the next line replaces the last one
	last        control.Step
}

func newStepPrinter(out *os.File, json bool) *stepPrinter {
	l := displayOf(out)
	return &stepPrinter{out: out, json: json, live: l.terminal && !json, width: l.columns()}
}

// step prints a step.
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
	if p.replaceable {
		before = "\r\x1b[K"
	}
	p.replaceable = p.live && s.Step == control.StepRunning
	switch {
	case p.replaceable: // on a single row, so that the next line can replace it
		line = clip(line, p.width-1)
	case p.live:
		line = strings.Join(wrap(line, p.width, "  "), "\n") + "\n"
	default:
		line += "\n"
	}
	_, err := io.WriteString(p.out, before+line)
	return err
}

// finish returns the result after the last step. continues says what goes on if the
// user has stopped watching.
func (p *stepPrinter) finish(err error, continues string) error {
	if p.replaceable {
		fmt.Fprintln(p.out)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("stopped watching; %s", continues)
	case err != nil && p.last.Step != "":
		return fmt.Errorf("%w; %s once llmsup runs again", err, continues)
	case err != nil:
		return err
	case p.last.Step == control.StepFailed, p.last.Step == control.StepCancelled:
		return errAlreadyPrinted
	case !slices.Contains([]string{control.StepDrained, control.StepResumed, control.StepLoaded, control.StepUnloaded}, p.last.Step):
		return errors.New("llmsup exited before this was done; see its log")
	}
	return nil
}
