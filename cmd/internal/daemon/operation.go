package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// operation is a drain or its end, which goes on whoever watches it: those who
// come later are told all that has happened.
type operation struct {
	mu      sync.Mutex
	steps   []control.Step
	changed chan struct{} // closed when there is one more
	over    chan struct{} // closed behind the last one
}

func newOperation() *operation {
	return &operation{changed: make(chan struct{}), over: make(chan struct{})}
}

// tell adds a step. After the last one there are no more.
func (o *operation) tell(s control.Step) { o.add(s, false) }

// end adds the last step, if there was none. No operation (nil) has one.
func (o *operation) end(step, text string) {
	if o != nil {
		o.add(control.Step{Step: step, Text: text}, true)
	}
}

func (o *operation) add(s control.Step, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isOver() {
		return
	}
	s.At = time.Now()
	o.steps = append(o.steps, s)
	if last {
		close(o.over)
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *operation) isOver() bool {
	select {
	case <-o.over:
		return true
	default:
		return false
	}
}

// follow hands on each step until the last one, or until ctx ends.
func (o *operation) follow(ctx context.Context, emit func(control.Step) error) error {
	for at := 0; ; {
		o.mu.Lock()
		steps, changed, over := o.steps[at:len(o.steps):len(o.steps)], o.changed, o.isOver()
		o.mu.Unlock()
		for _, s := range steps {
			if err := emit(s); err != nil {
				return err
			}
		}
		at += len(steps)
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
