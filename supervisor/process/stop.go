package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// forcedStop is how long a stop command may take once llmsup must stop at once.
const forcedStop = 2 * time.Second

// ErrNotStopped says that what a stop command was to end may still run.
var ErrNotStopped = errors.New("a container may be left")

// RunStop runs a command that ends what a program has started elsewhere, such as a
// container. Its error wraps ErrNotStopped if it cannot be run, or does not end within limit or
// soon after force is closed; otherwise it is about an exit status, which is also that of a
// command that has found nothing to stop.
func RunStop(command Command, limit time.Duration, force <-chan struct{}, output io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	go func() {
		select {
		case <-force:
			time.AfterFunc(forcedStop, cancel)
		case <-ctx.Done():
		}
	}()
	exit, err := Run(ctx, command, output)
	switch {
	case err != nil:
		return fmt.Errorf("run stop_command: %w; %w", err, ErrNotStopped)
	case ctx.Err() != nil:
		return fmt.Errorf("stop_command did not end in time; %w", ErrNotStopped)
	case exit.Code != 0:
		return fmt.Errorf("stop_command has failed: exit status %d", exit.Code)
	}
	return nil
}
