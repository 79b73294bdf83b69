package price

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
)

// UpstreamList is what an upstream lists, read daily, with the last one kept on disk so
// that a start without a network knows prices too.
type UpstreamList struct {
	path  string
	from  string
	fetch func(context.Context) ([]byte, error)
	now   atomic.Pointer[savedList]
}

// savedList is the file, too.
type savedList struct {
	From   string    `json:"from"` // whose prices these are
	At     time.Time `json:"at"`
	Models Table     `json:"models"`
	Names  []string  `json:"names"` // of all models, also those without a price
}

const (
	// maxAge is how long a list is good enough.
	maxAge = 24 * time.Hour
	// firstRetry and retryMost bound the pause after a fetch that failed.
	firstRetry = 10 * time.Second
	maxRetry   = time.Hour
)

// OpenUpstreamList returns the list that was kept in a file, if there is one of the same
// upstream: from is its base URL. fetch gets the answer of its /models; whoever
// gives it bounds its time and its size. A file that can't be used is told in
// err, and the list works without it.
func OpenUpstreamList(path, from string, fetch func(context.Context) ([]byte, error)) (*UpstreamList, error) {
	l := &UpstreamList{path: path, from: from, fetch: fetch}
	l.now.Store(&savedList{})
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	var kept savedList
	if err == nil {
		err = json.Unmarshal(raw, &kept)
	}
	if err != nil {
		return l, fmt.Errorf("read the kept prices %s: %w; they are fetched again", path, err)
	}
	if kept.From == from {
		l.now.Store(&kept)
	}
	return l, nil
}

// Table returns the prices, nil as long as there are none, and of when they are.
// Nobody may change it.
func (l *UpstreamList) Table() (Table, time.Time) {
	now := l.now.Load()
	return now.Models, now.At
}

// Names returns the names of all models that the upstream lists; nil as long as
// there are none. Callers must not change them.
func (l *UpstreamList) Names() []string { return l.now.Load().Names }

// Refresh fetches the list and keeps it. With an error the old one stays, but
// for one that says that only the file could not be written.
func (l *UpstreamList) Refresh(ctx context.Context) error {
	raw, err := l.fetch(ctx)
	if err != nil {
		return fmt.Errorf("get the prices of %s: %w", l.from, err)
	}
	names, table, err := ParseModels(raw)
	if err != nil {
		if errors.Is(err, ErrNoPrices) && len(names) > 0 {
			old := *l.now.Load()
			old.Names = names
			l.now.Store(&old)
		}
		return fmt.Errorf("read the prices of %s: %w", l.from, err)
	}
	next := &savedList{From: l.from, At: time.Now().UTC().Truncate(time.Second), Models: table, Names: names}
	l.now.Store(next)
	if err := next.write(l.path); err != nil {
		return &saveError{fmt.Errorf("keep the prices in %s: %w", l.path, err)}
	}
	return nil
}

// saveError says that the list is new and the file is not.
type saveError struct{ error }

func (e *saveError) Unwrap() error { return e.error }

// write replaces the file atomically, and syncs it first.
func (n *savedList) write(path string) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, raw, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// KeepFresh fetches the list when it is a day old, and whenever it is not there, until
// ctx ends. tell is called after each fetch, with nil when it went well; it is
// also when a new Book is due.
func (l *UpstreamList) KeepFresh(ctx context.Context, tell func(error)) {
	pause := firstRetry
	for {
		wait := time.Until(l.now.Load().At.Add(maxAge))
		if wait <= 0 || wait > maxAge || l.Names() == nil { // of tomorrow: the clock was wrong; without names: an older version kept it
			err := l.Refresh(ctx)
			if ctx.Err() != nil {
				return
			}
			tell(err)
			wait, pause = pause, min(2*pause, maxRetry)
			if kept := (*saveError)(nil); err == nil || errors.As(err, &kept) {
				wait, pause = maxAge, firstRetry
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
