package supervisor

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/llmsup/llmsup/supervisor/process"
)

// TestStopDuringBackoff: a stop does not wait for the end of a pause.
func TestStopDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Spec{})
		failsFast(s, process.Exit{Code: 1}, "")
		stop := runServer(t, s)
		time.Sleep(10 * time.Minute) // the pauses are a minute by now
		began := time.Now()
		stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("the stop took %s", took)
		}
		wantState(t, s, Stopped, "")
	})
}
