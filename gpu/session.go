package gpu

import "time"

// reopenFirst and reopenMax bound the pauses between attempts to open a session
// with a driver that is not there, or has lost a GPU: only a new session finds
// one again.
const (
	reopenFirst = time.Second
	reopenMax   = 15 * time.Second
)

// result is what one round with the driver came to.
type result struct {
	versions versions
	gpus     []GPU
	err      error
}

// session is the dealing with a driver, from open to open. All its methods may
// hang as long as the driver does.
type session struct {
	driver   driver
	open     bool
	versions versions
	count    int // GPUs at the best
	pause    time.Duration
	next     time.Time // when it is opened again; zero = there is no need to
	failed   error     // why it is not open
}

// round reads all GPUs, after opening the session where that is due.
func (s *session) round(now time.Time) result {
	if due := !s.next.IsZero() && !now.Before(s.next); due {
		s.end()
	}
	if !s.open {
		if now.Before(s.next) {
			return result{err: s.failed}
		}
		v, err := s.driver.open()
		if err != nil {
			return s.fail(now, err)
		}
		s.open, s.versions, s.next, s.failed = true, v, time.Time{}, nil
	}
	gpus, stale, err := s.driver.read()
	if err != nil {
		s.end()
		return s.fail(now, err)
	}
	s.count = max(s.count, len(gpus))
	switch {
	case !stale && len(gpus) == s.count:
		s.pause = 0
	case s.next.IsZero(): // until then, those that are left are read
		s.later(now)
	}
	return result{versions: s.versions, gpus: gpus}
}

func (s *session) fail(now time.Time, err error) result {
	s.failed = err
	s.later(now)
	return result{err: err}
}

// later sets when the session is opened again.
func (s *session) later(now time.Time) {
	s.pause = min(max(2*s.pause, reopenFirst), reopenMax)
	s.next = now.Add(s.pause)
}

func (s *session) end() {
	if s.open {
		s.driver.close()
		s.open = false
	}
}
