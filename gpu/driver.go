package gpu

import "errors"

// driver is who tells of GPUs. One goroutine makes all calls; any of them may
// hang.
type driver interface {
	// open begins a session. After an error there is none.
	open() (versions, error)
	// read reads all GPUs. stale says that the session has to be opened again for
	// the driver to tell the truth: a GPU was lost, or the driver reloaded.
	read() (gpus []GPU, stale bool, err error)
	close()
}

// versions are what a driver says of itself; "" = it does not.
type versions struct{ driver, cuda string }

// errNoDriver is wrapped by open's error where there is no driver to talk to,
// and none will come while llmsup runs.
var errNoDriver = errors.New("no NVML")
