package maintenance

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// operation follows one drain command, or one that ends drains, and keeps its steps.
// It goes on when its client closes the connection.
type operation struct {
	command command
	servers []Server
	named   bool // the operator named them, and did not mean all

	mu      sync.Mutex
	steps   []control.Step
	changed chan struct{} // closed when there is one more
	over    chan struct{} // closed behind the last one
}

func newOperation(c command, servers []Server, named bool) *operation {
	return &operation{command: c, servers: servers, named: named, changed: make(chan struct{}), over: make(chan struct{})}
}

// begin remembers an operation for as long as it is not over. The caller holds
// the lock.
func (m *Manager) begin(o *operation) {
	m.operations = append(slices.DeleteFunc(m.operations, (*operation).isOver), o)
}

// cancel ends the operations of a command that are about one of some servers: another
// command has taken their place. text returns the last step's text for the names of
// those servers, "" where it is all that the operation is about. The caller holds the
// lock.
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

// emit adds a step. After the last one there are no more.
func (o *operation) emit(s control.Step) { o.add(s, false) }

// end adds the last step, if there was none.
func (o *operation) end(step, text string) { o.add(control.Step{Step: step, Text: text}, true) }

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
