package downloads

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/hub"
)

// pullInterval is the interval of the progress that Pull emits.
const pullInterval = time.Second

// Pull downloads a model for an operator, and emits its progress until it is there, has failed or
// is cancelled. The download continues if ctx ends.
func (m *Manager) Pull(ctx context.Context, text string, emit func(control.Step) error) error {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return err
	}
	if strings.Contains(ref.URL, "?") {
		return errors.New("the URL has a query, which may be secret; download the file with llmsup pull")
	}
	if err := m.Start(ref.String()); err != nil {
		return err
	}
	tick := time.NewTicker(pullInterval)
	defer tick.Stop()
	for {
		step := m.pullStep(ref.String())
		if err := emit(step); err != nil || step.Step != control.StepStarting {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// pullStep returns how far a download is.
func (m *Manager) pullStep(ref string) control.Step {
	now, runs := m.Running(ref) // first: it ends when the model is there
	step := func(step, text string) control.Step { return control.Step{At: time.Now(), Step: step, Text: text} }
	path, there := Find(m.opts.Dir, ref)
	switch {
	case there:
		return step(control.StepPulled, "downloaded: "+path)
	case !runs:
		return step(control.StepCancelled, "cancelled; a later download continues it")
	case now.Problem != "": // only that of a server is tried again
		_ = m.Cancel(ref) // an error: it is a server's
		return step(control.StepFailed, now.Problem)
	}
	return step(control.StepStarting, now.Reason())
}

// CancelPull cancels a Pull, and keeps what has arrived.
func (m *Manager) CancelPull(text string) error {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return err
	}
	return m.Cancel(ref.String())
}
