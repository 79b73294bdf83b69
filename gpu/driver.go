package gpu

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

// absentError says that there is no driver to talk to: a box without a GPU is a
// good box.
type absentError string

func (e absentError) Error() string { return string(e) }
