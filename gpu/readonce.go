package gpu

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// ReadOnce reads the GPUs once, for a command without a Monitor. It waits at most
// answerTimeout for the driver. An error is the sample's Problem.
func ReadOnce(ctx context.Context) *Sample {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	m := NewMonitor(zerolog.Nop())
	done := make(chan result, 1)
	go func() {
		s := session{driver: m.driver}
		done <- s.round(time.Now())
		s.close() // this may hang as well
	}()
	select {
	case r := <-done:
		m.publishResult(r)
	case <-ctx.Done():
		m.publishProblem(time.Now(), fmt.Errorf("the NVIDIA driver has not answered for %s", answerTimeout))
	}
	return m.Sample()
}
