//go:build !linux || !cgo

package gpu

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// TestWithoutCgo checks that a build without cgo reports it, and not as a warning.
func TestWithoutCgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startMonitor(t, newNVML())
		if s := r.after(0); !strings.Contains(s.Problem, "built without cgo") || len(s.GPUs) > 0 {
			t.Errorf("problem %q with GPUs %+v", s.Problem, s.GPUs)
		}
		r.wantLog(1, zerolog.InfoLevel.String())
	})
}
