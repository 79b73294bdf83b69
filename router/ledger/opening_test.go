package ledger

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestQueryWhileOpening: a query waits while the database is being opened, for a time.
func TestQueryWhileOpening(t *testing.T) {
	for name, tc := range map[string]struct {
		opens time.Duration
		want  string // its error
		took  time.Duration
	}{
		"it is opened":    {3 * time.Second, "", 3 * time.Second},
		"it takes longer": {time.Minute, "read the ledger: ledger.db: it is being opened", maxOpening},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Ledger{databaseErr: errNotOpen, changed: make(chan struct{})}
				go func() {
					time.Sleep(tc.opens)
					l.mu.Lock()
					defer l.mu.Unlock()
					l.database.Store(&database{})
					l.databaseErr = nil
					l.announce()
				}()
				start, message := time.Now(), ""
				d, err := l.readable(t.Context())
				if err != nil {
					message = err.Error()
				}
				if took := time.Since(start); message != tc.want || (d != nil) != (tc.want == "") || took != tc.took {
					t.Errorf("%v, %q after %s", d, message, took)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}
