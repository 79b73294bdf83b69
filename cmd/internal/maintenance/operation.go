package maintenance

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// operation is a running drain or resume, with its steps so far. It continues if its
// client closes the connection.
type operation struct {
	command command
	servers []Server
	named   bool // the operator named the servers, instead of all

	mu      sync.Mutex
	steps   []control.Step
	changed chan struct{} // closed at the next step
	done    chan struct{} // closed after the last step
}

func newOperation(c command, servers []Server, named bool) *operation {
	return &operation{command: c, servers: servers, named: named, changed: make(chan struct{}), done: make(chan struct{})}
}

// begin registers an operation until it is done. The caller holds the lock.
func (m *Manager) begin(o *operation) {
	m.operations = append(slices.DeleteFunc(m.operations, (*operation).isDone), o)
}

// cancel ends the operations of a command for any of some servers, because another command
// replaces it. text returns the last step's text for the names of those servers, "" if
// they are all of the operation's. The caller holds the lock.
func (m *Manager) cancel(c command, servers []string, text func(names string) string) {
	for _, o := range m.operations {
		var both []string
		for _, name := range namesOf(o.servers) {
			if slices.Contains(servers, name) {
				both = append(both, name)
			}
		}
		switch {
		case o.command != c || len(both) == 0:
		case len(both) == len(o.servers):
			o.end(control.StepCancelled, text(""))
		default:
			o.end(control.StepCancelled, text(strings.Join(both, " and ")))
		}
	}
}

// emit adds a step, unless the operation is done.
func (o *operation) emit(s control.Step) { o.add(s, false) }

// end adds the last step, unless the operation is done.
func (o *operation) end(step, text string) { o.add(control.Step{Step: step, Text: text}, true) }

func (o *operation) add(s control.Step, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isDone() {
		return
	}
	s.At = time.Now()
	o.steps = append(o.steps, s)
	if last {
		close(o.done)
	}
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *operation) isDone() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// follow emits each step until the last one, or until ctx ends.
func (o *operation) follow(ctx context.Context, emit func(control.Step) error) error {
	for at := 0; ; {
		o.mu.Lock()
		steps, changed, over := o.steps[at:len(o.steps):len(o.steps)], o.changed, o.isDone()
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
