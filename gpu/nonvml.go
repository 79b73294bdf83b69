//go:build !linux || !cgo

package gpu

import "fmt"

// nvml can't be reached: its library is loaded through cgo.
type nvml struct{}

func newNVML() driver { return nvml{} }

func (nvml) open() (versions, error) {
	return versions{}, fmt.Errorf("%w: this llmsup was built without cgo, which reading GPUs takes", errNoDriver)
}
func (nvml) read() ([]GPU, bool, error) { return nil, false, errNoDriver }
func (nvml) close()                     {}
