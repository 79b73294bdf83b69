// Package promptcache keeps the prompt caches of a model on disk while the model is unloaded, so
// that it need not process long prompts again after its next load. Package supervisor has one
// Store for each server that is loaded on demand, and calls it before a start, after a load
// and before a process is stopped. The engine's package says how its program saves and
// restores (Process).
//
// The files contain what callers sent: only llmsup's user can read them, and they exist only
// while the model is not loaded. The program may write into their folder at no other time.
package promptcache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/rs/zerolog"
)

// Process is what a Store needs of a running program. Files are names in the Store's Folder.
type Process interface {
	// Slots returns the slots with what their caches hold.
	Slots(ctx context.Context) ([]Slot, error)
	// Save writes the cache of an idle slot into a file, and returns its size in bytes.
	Save(ctx context.Context, slot int, file string) (bytes int64, err error)
	// Restore reads the cache of a slot from a file, and returns how many tokens it holds.
	Restore(ctx context.Context, slot int, file string) (tokens int, err error)
	// Try makes a small call, saves its cache into a file, restores it and makes the call again.
	// It returns why the second call did not use the cache; "" = it did.
	Try(ctx context.Context, slot int, file string) (reason string, err error)
	// Limit returns why the program can never use a restored cache of this model; "" = it
	// may be able to.
	Limit() string
}

// Slot is a slot of a program.
type Slot struct {
	ID     int
	Tokens int  // in its cache
	Busy   bool // it works on a call
}

const (
	// worth is how long the prompt of a slot must take to process for its cache to be saved.
	worth = time.Second
	// maxTime bounds the time for saving, and that for restoring. A shorter bound on saving
	// is the time that processing the prompts again would take.
	maxTime = 10 * time.Second
	// maxBytes bounds the files of one model, as does diskShare of the free space.
	maxBytes  = 4 << 30
	diskShare = 10
	// assumedBytes are the bytes of a token of which none has been saved: more than most
	// models need.
	assumedBytes = 512 << 10
	// assumedRate is the assumed speed of reading a file in bytes per second, until one of
	// measurableBytes has been read.
	assumedRate     = 200 << 20
	measurableBytes = 16 << 20
	// tryFile is the file of Process.Try.
	tryFile = "try.bin"
	// verdictFile has what is known about a version of a model.
	verdictFile = "prompt-cache.json"
)

// verdict is what is known about a version of a model. It is kept across restarts of llmsup.
type verdict struct {
	Signature     string  `json:"signature"`
	Tried         bool    `json:"tried"`
	Reason        string  `json:"reason"`           // why caches are not kept; "" = they are
	BytesPerToken float64 `json:"bytes_per_token"`  // 0 = unknown
	Rate          float64 `json:"bytes_per_second"` // of reading; 0 = not measured
}

// file is a saved cache.
type file struct {
	name  string
	slot  int
	bytes int64
}

// Store keeps the caches of one server's model. Its methods are called by one goroutine, but
// for State.
type Store struct {
	dir string // the server's
	log zerolog.Logger

	mu      sync.Mutex // guards verdict, which State reads
	verdict verdict
	saved   []file
	held    atomic.Pointer[held]
}

// Open returns a Store in a server's folder. It removes what an earlier llmsup has left.
func Open(dir string, log zerolog.Logger) *Store {
	s := &Store{dir: dir, log: log}
	s.held.Store(&held{})
	s.removeFolder()
	raw, err := os.ReadFile(filepath.Join(dir, verdictFile))
	if err == nil {
		_ = json.Unmarshal(raw, &s.verdict) // unreadable: it is found out again
	}
	return s
}

// Folder is where the program may write, between Prepare and Restore and during Save.
func (s *Store) Folder() string { return filepath.Join(s.dir, "prompt-cache") }

// Prepare makes the folder for a process that is about to start, and returns it; "" = its caches
// are not kept, because they are not wanted or there is no folder. signature identifies the
// model, the program and the settings: what was saved with another one is removed.
func (s *Store) Prepare(wanted bool, signature string) (folder string) {
	if !wanted {
		s.Remove()
		return ""
	}
	if s.verdict.Signature != signature {
		s.removeFolder()
		s.setVerdict(verdict{Signature: signature})
	}
	if err := os.MkdirAll(s.Folder(), 0o700); err != nil {
		s.log.Warn().Err(err).Msg("prompt caches are not kept while the model is unloaded")
		return ""
	}
	return s.Folder()
}

// State returns whether caches are kept, as a text for people: "kept across unloads", "not
// supported: reason", or "" while it is not known.
func (s *Store) State() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.verdict.Reason != "":
		return "not supported: " + s.verdict.Reason
	case s.verdict.Tried:
		return "kept across unloads"
	}
	return ""
}

// Remove removes everything. The server is no longer configured, or keeps no caches.
func (s *Store) Remove() {
	if s.dir == "" {
		return
	}
	s.removeFolder()
	_ = os.Remove(filepath.Join(s.dir, verdictFile)) // fails if there is none
}

func (s *Store) removeFolder() {
	s.saved = nil
	if s.dir == "" {
		return
	}
	if err := os.RemoveAll(s.Folder()); err != nil {
		s.log.Warn().Err(err).Msg("cannot remove saved prompt caches; they contain prompts: remove the folder")
	}
}

// setVerdict sets and stores what is known. If it cannot be stored, it is found out again.
func (s *Store) setVerdict(v verdict) {
	s.mu.Lock()
	s.verdict = v
	s.mu.Unlock()
	raw, err := json.Marshal(v)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(s.dir, verdictFile), raw, 0o600, renameio.WithTempDir(s.dir))
	}
	if err != nil {
		s.log.Debug().Err(err).Msg("cannot store whether prompt caches can be kept")
	}
}

// Restore gives a process that has just been loaded the caches that were saved, and removes the
// files and the folder. It returns how many tokens they hold.
func (s *Store) Restore(ctx context.Context, p Process) (tokens int) {
	defer s.removeFolder()
	if reason := p.Limit(); reason != "" && reason != s.verdict.Reason {
		v := s.verdict
		v.Tried, v.Reason = true, reason
		s.setVerdict(v)
	}
	if s.verdict.Reason != "" || len(s.saved) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	began, bytes := time.Now(), int64(0)
	for _, f := range s.saved {
		restored, err := p.Restore(ctx, f.slot, f.name)
		if err != nil {
			s.log.Warn().Err(err).Int("slot", f.slot).Msg("cannot restore a prompt cache; its prompt is processed again")
			continue
		}
		tokens += restored
		bytes += f.bytes
	}
	took := time.Since(began)
	if bytes >= measurableBytes {
		v := s.verdict
		v.Rate = float64(bytes) / max(took.Seconds(), 0.001)
		s.setVerdict(v)
	}
	s.Observe(tokens, 0, 0)
	s.log.Info().Int("tokens", tokens).Int64("bytes", bytes).Int64("took_ms", took.Milliseconds()).Msg("restored prompt caches")
	return tokens
}

// Save saves the caches of a process that is about to be stopped and has no calls, those that
// take the longest to process again first. If its speed is not known, none is saved. An
// error costs only the caches.
func (s *Store) Save(ctx context.Context, p Process) {
	s.removeFolder()
	speed := s.held.Load().speed
	if s.verdict.Reason != "" || speed <= 0 {
		return
	}
	slots, err := p.Slots(ctx)
	if err != nil {
		s.log.Debug().Err(err).Msg("cannot read what the prompt caches hold; they are not saved")
		return
	}
	worthy := s.worthSaving(slots, speed)
	if len(worthy) == 0 {
		return
	}
	rebuild := time.Duration(0)
	for _, slot := range worthy {
		rebuild += seconds(float64(slot.Tokens) / speed)
	}
	ctx, cancel := context.WithTimeout(ctx, min(rebuild, maxTime))
	defer cancel()
	if err := s.save(ctx, p, worthy); err != nil {
		s.log.Warn().Err(err).Msg("cannot save all prompt caches; after the next load their prompts are processed again")
	}
	if len(s.saved) > 0 && !s.verdict.Tried {
		s.try(ctx, p, slots)
	}
	if len(s.saved) == 0 {
		s.removeFolder()
	}
}

// worthSaving returns the slots whose prompts take longer to process than their caches to
// read.
func (s *Store) worthSaving(slots []Slot, speed float64) []Slot {
	rate := cmp.Or(s.verdict.Rate, assumedRate)
	list := slices.DeleteFunc(slices.Clone(slots), func(slot Slot) bool {
		rebuild := seconds(float64(slot.Tokens) / speed)
		return slot.Busy || rebuild < worth || rebuild < seconds(float64(slot.Tokens)*s.verdict.BytesPerToken/rate)
	})
	slices.SortStableFunc(list, func(a, b Slot) int { return cmp.Compare(b.Tokens, a.Tokens) })
	return list
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// save saves slots until the disk has no more room for them.
func (s *Store) save(ctx context.Context, p Process, slots []Slot) error {
	if err := os.MkdirAll(s.Folder(), 0o700); err != nil {
		return err
	}
	room, err := s.room()
	if err != nil {
		return err
	}
	for _, slot := range slots {
		perToken := cmp.Or(s.verdict.BytesPerToken, assumedBytes)
		if float64(slot.Tokens)*perToken > float64(room) {
			continue // a smaller one may fit
		}
		f := file{name: fmt.Sprintf("slot%d.bin", slot.ID), slot: slot.ID}
		if f.bytes, err = s.saveSlot(ctx, p, f); err != nil {
			_ = os.Remove(filepath.Join(s.Folder(), f.name)) // fails if there is none
			return err
		}
		s.saved = append(s.saved, f)
		room -= f.bytes
		if s.verdict.BytesPerToken == 0 {
			v := s.verdict
			v.BytesPerToken = float64(f.bytes) / float64(slot.Tokens)
			s.setVerdict(v)
		}
		s.log.Info().Int("slot", slot.ID).Int("tokens", slot.Tokens).Int64("bytes", f.bytes).Msg("saved a prompt cache")
	}
	return nil
}

// saveSlot saves a slot into a file that only llmsup's user can read. The program may report
// success although the disk is full, so the size is compared.
func (s *Store) saveSlot(ctx context.Context, p Process, f file) (bytes int64, err error) {
	path := filepath.Join(s.Folder(), f.name)
	if bytes, err = p.Save(ctx, f.slot, f.name); err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if info.Size() != bytes || bytes == 0 {
		return 0, errors.New("the file is incomplete: is the disk full?")
	}
	return bytes, os.Chmod(path, 0o600)
}

// room returns how many bytes may be saved.
func (s *Store) room() (int64, error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(s.Folder(), &disk); err != nil {
		return 0, err
	}
	free := disk.Bavail * uint64(disk.Bsize)
	return int64(min(free/diskShare, maxBytes)), nil
}

// try finds out whether this model's caches can be used after a restore. It overwrites the
// slot that holds the least.
func (s *Store) try(ctx context.Context, p Process, slots []Slot) {
	slots = slices.DeleteFunc(slots, func(slot Slot) bool { return slot.Busy })
	least := slices.MinFunc(slots, func(a, b Slot) int { return cmp.Compare(a.Tokens, b.Tokens) })
	reason, err := p.Try(ctx, least.ID, tryFile)
	_ = os.Remove(filepath.Join(s.Folder(), tryFile)) // fails if there is none
	if ctx.Err() != nil {
		return // next time
	}
	if err != nil {
		reason = "an attempt failed: " + err.Error()
	}
	v := s.verdict
	v.Tried, v.Reason = true, reason
	s.setVerdict(v)
	if reason != "" {
		s.removeFolder()
		s.log.Info().Msg("prompt caches are not kept while the model is unloaded: " + reason)
	}
}
