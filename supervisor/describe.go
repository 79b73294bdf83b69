package supervisor

import (
	"context"
	"time"

	"github.com/llmsup/llmsup/models"
)

// describeTimeout is how long a start waits for the header of the model's file. On a disk
// that does not answer, the model stays unknown, and the owner goroutine reacts.
const describeTimeout = 5 * time.Second

// describe has the engine describe the model of the spec. If the file cannot be read, the
// program will report why.
func (s *Server) describe(ctx context.Context) {
	s.description = nil
	result := make(chan *models.Description, 1)
	spec, engine := s.spec, s.engine
	go func() {
		d, err := engine.Describe(spec)
		if err != nil {
			result <- nil
			return
		}
		result <- &d
	}()
	timer := time.NewTimer(describeTimeout)
	defer timer.Stop()
	select {
	case s.description = <-result:
	case <-ctx.Done():
	case <-timer.C:
	}
}

// description returns what is known of the model.
func (n *Snapshot) description() models.Description {
	if n.Description == nil {
		return models.Description{}
	}
	return *n.Description
}
