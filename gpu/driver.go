package gpu

// driver reads GPUs. All calls come from one goroutine, and each may hang.
type driver interface {
	// open begins a session. After an error there is none.
	open() (versions, error)
	// read reads all GPUs. stale means that a GPU was lost or the driver reloaded:
	// only a new session will show the present state.
	read() (gpus []GPU, stale bool, err error)
	close()
}

// versions are those that a driver reports; "" = unknown.
type versions struct{ driver, cuda string }

// absentError means that this machine has no NVIDIA driver, which is no fault.
type absentError string

func (e absentError) Error() string { return string(e) }
