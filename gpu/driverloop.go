package gpu

import (
	"errors"
	"time"
)

// reopenFirst and reopenMax bound the backoff between attempts to open a session with a
// driver that is absent or has lost a GPU: only a new session finds the GPU again.
const (
	reopenFirst = time.Second
	reopenMax   = 15 * time.Second
)

// result is the outcome of one round with the driver.
type result struct {
	at       time.Time // when the round began
	versions versions
	gpus     []GPU
	err      error
}

// session keeps a driver open, and reopens it with a backoff. Its methods hang for as
// long as the driver does.
type session struct {
	driver   driver
	open     bool
	versions versions
	mostGPUs int // the most GPUs that were read
	pause    time.Duration
	reopenAt time.Time // when it is opened again; zero = there is no need to
	err      error     // why it is not open
}

// round opens the session if it is time to, and reads all GPUs.
func (s *session) round(now time.Time) result {
	if due := !s.reopenAt.IsZero() && !now.Before(s.reopenAt); due {
		s.close()
	}
	if !s.open {
		if now.Before(s.reopenAt) {
			return result{at: now, err: s.err}
		}
		v, err := s.driver.open()
		if err != nil {
			return s.fail(now, err)
		}
		s.open, s.versions, s.reopenAt, s.err = true, v, time.Time{}, nil
	}
	gpus, stale, err := s.driver.read()
	if err != nil {
		s.close()
		return s.fail(now, err)
	}
	s.mostGPUs = max(s.mostGPUs, len(gpus))
	switch {
	case !stale && len(gpus) == s.mostGPUs:
		s.pause = 0
	case s.reopenAt.IsZero(): // the remaining GPUs are read until then
		s.scheduleReopen(now)
	}
	return result{at: now, versions: s.versions, gpus: gpus}
}

func (s *session) fail(now time.Time, err error) result {
	s.err = err
	s.scheduleReopen(now)
	return result{at: now, err: err}
}

// scheduleReopen sets when the session is opened again.
func (s *session) scheduleReopen(now time.Time) {
	s.pause = min(max(2*s.pause, reopenFirst), reopenMax)
	s.reopenAt = now.Add(s.pause)
}

func (s *session) close() {
	if s.open {
		s.driver.close()
		s.open = false
	}
}

// driverLoop is the goroutine that makes all calls of the driver, one round after the
// other.
func (m *Monitor) driverLoop(rounds <-chan struct{}, results chan<- result) {
	s := session{driver: m.driver}
	for range rounds {
		began := time.Now()
		if _, absent := errors.AsType[absentError](s.err); m.suspended.Load() && !absent {
			s.close()
			s.reopenAt = time.Time{} // reopened at the first round after the suspension
			results <- result{at: began, err: errSuspended}
			continue
		}
		results <- s.round(began)
	}
	s.close()
}
