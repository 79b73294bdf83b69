package certificate

import (
	"context"
	"crypto/tls"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// lookInterval is how often the files are looked at. A renewal that is not announced by a reload is
// used after two looks at most.
const lookInterval = 10 * time.Second

// Store has the pair that the endpoint uses. Connections that are open keep the one that they began
// with. It is safe for concurrent use.
type Store struct {
	log zerolog.Logger

	pair atomic.Pointer[Pair]

	mu       sync.Mutex
	settings Settings
	failed   string // why the files' present content is not used; "" = it is
	logged   string // the last problem that was logged
}

// New returns a Store for a pair that was read with Settings.
func New(s Settings, p *Pair, log zerolog.Logger) *Store {
	store := &Store{log: log}
	store.Set(s, p)
	store.logProblem(p.Problem(time.Now()))
	return store
}

// Set replaces the pair. It reports whether that is another certificate.
func (s *Store) Set(settings Settings, p *Pair) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.pair.Swap(p)
	s.settings, s.failed = settings, ""
	return old == nil || !old.Leaf().Equal(p.Leaf())
}

// Pair returns the pair in use, and what is wrong with it or with the files that should replace it;
// "" = nothing.
func (s *Store) Pair() (p *Pair, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = s.pair.Load()
	if s.failed != "" {
		return p, s.failed
	}
	return p, p.Problem(time.Now())
}

// Watch uses renewed files, and logs problems, until ctx ends.
func (s *Store) Watch(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look reads the files if they have changed, and uses them if they are right. Programs that renew a
// certificate write its files one after the other, so that they may not match for a moment: a
// problem is logged only if the next look finds it, too.
func (s *Store) look() {
	s.mu.Lock()
	settings, before := s.settings, s.failed
	s.mu.Unlock()
	failed := ""
	var renewed *Pair
	if settings.versions() != s.pair.Load().files { // no lock while files are read
		p, key, err := settings.Read()
		if renewed = p; err != nil {
			failed = "the certificate was not replaced, and the one before is still used: tls." + key + ": " + err.Error()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.settings != settings { // a reload was faster
		return
	}
	s.failed = failed
	if renewed != nil {
		s.pair.Store(renewed)
		s.log.Info().Time("expires", renewed.Leaf().NotAfter).Msg("the certificate was renewed")
	}
	switch failed {
	case "":
		s.logProblem(s.pair.Load().Problem(time.Now()))
	case before:
		s.logProblem(failed)
	}
}

// logProblem logs a problem, once.
func (s *Store) logProblem(problem string) {
	if problem != "" && problem != s.logged {
		s.log.Warn().Msg(problem)
	}
	s.logged = problem
}

// TLS returns the configuration of the endpoint's connections: TLS 1.2 or newer, and HTTP/1.1.
//
// Not HTTP/2: there a deadline for writing ends the stream when it is over, though nothing is
// written. Of HTTP/1.1 it only ends a write that is late, and so one deadline serves many writes of
// an answer, between which its backend may be silent. All calls of a client would share one
// connection, too, so that max_connections would not limit them.
func (s *Store) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.Load().certificate, nil },
	}
}

// inodeOf returns the inode of a file.
func inodeOf(info os.FileInfo) uint64 {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}
