//go:build !linux || !cgo

package gpu

// nvml is the driver of a build without cgo, which NVML's library needs.
type nvml struct{}

const errNoCgo = absentError("this llmsup was built without cgo, which reading GPUs requires")

func newNVML() driver { return nvml{} }

func (nvml) open() (versions, error) {
	return versions{}, errNoCgo
}
func (nvml) read() ([]GPU, bool, error) { return nil, false, errNoCgo }
func (nvml) close()                     {}
