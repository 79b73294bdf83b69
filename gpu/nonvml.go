//go:build !linux || !cgo

package gpu

// nvml can't be reached: its library is loaded through cgo.
type nvml struct{}

const errNoCgo = absentError("this llmsup was built without cgo, which reading GPUs takes")

func newNVML() driver { return nvml{} }

func (nvml) open() (versions, error) {
	return versions{}, errNoCgo
}
func (nvml) read() ([]GPU, bool, error) { return nil, false, errNoCgo }
func (nvml) close()                     {}
