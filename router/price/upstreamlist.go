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

	"github.com/llmsup/llmsup/models"
)

// UpstreamList is the price list of an upstream. It is fetched daily, and saved in a file, so
// that llmsup has prices when it starts without a network.
type UpstreamList struct {
	path  string
	from  string
	fetch func(context.Context) ([]byte, error)
	now   atomic.Pointer[savedList]
}

// savedList is a list, and the content of its file.
type savedList struct {
	From   string          `json:"from"` // base URL of the upstream
	At     time.Time       `json:"at"`
	Models Table           `json:"models"`
	List   []models.Listed `json:"list"`            // all models, with and without a price
	Names  []string        `json:"names,omitempty"` // the same in files of older versions
}

const (
	// maxAge is how old a list may be.
	maxAge = 24 * time.Hour
	// firstRetry and maxRetry bound the pause after a failed fetch.
	firstRetry = 10 * time.Second
	maxRetry   = time.Hour
)

// OpenUpstreamList returns the list that is saved in a file, if it is of the same upstream: from
// is its base URL. fetch requests the upstream's /models, as FetchModels does. If the file
// cannot be used, err says why, and the list is empty.
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
		return l, fmt.Errorf("read the saved prices in %s: %w; they are fetched again", path, err)
	}
	for _, name := range kept.Names {
		kept.List = append(kept.List, models.Listed{ID: name})
		kept.At = time.Time{} // so that it is fetched with all its details
	}
	shared := sharedWords{}
	for i := range kept.List {
		shared.shareAll(&kept.List[i])
	}
	if kept.From == from {
		kept.Names = nil
		l.now.Store(&kept)
	}
	return l, nil
}

// Table returns the prices and their time; nil = there are none yet. Callers must not
// change it.
func (l *UpstreamList) Table() (Table, time.Time) {
	now := l.now.Load()
	return now.Models, now.At
}

// Listed returns all models of the list; nil = there is none yet. Callers must not change
// them.
func (l *UpstreamList) Listed() []models.Listed { return l.now.Load().List }

// Refresh fetches the list and saves it. If it fails, the old list stays, except if only
// the file could not be written (saveError).
func (l *UpstreamList) Refresh(ctx context.Context) error {
	raw, err := l.fetch(ctx)
	if err != nil {
		return fmt.Errorf("fetch the prices of %s: %w", l.from, err)
	}
	listed, table, err := ParseModels(raw)
	if err != nil {
		if errors.Is(err, ErrNoPrices) && len(listed) > 0 {
			old := *l.now.Load()
			old.List = listed
			l.now.Store(&old)
		}
		return fmt.Errorf("read the prices of %s: %w", l.from, err)
	}
	next := &savedList{From: l.from, At: time.Now().UTC().Truncate(time.Second), Models: table, List: listed}
	l.now.Store(next)
	if err := next.write(l.path); err != nil {
		return &saveError{fmt.Errorf("save the prices in %s: %w", l.path, err)}
	}
	return nil
}

// saveError is the error if the list is new and the file could not be written.
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

// KeepFresh fetches the list when it is older than maxAge or missing, until ctx ends. It calls
// report after each fetch, with nil for a success. After each report the caller makes a
// new PriceList.
func (l *UpstreamList) KeepFresh(ctx context.Context, report func(error)) {
	pause := firstRetry
	for {
		wait := time.Until(l.now.Load().At.Add(maxAge))
		if wait <= 0 || wait > maxAge || l.Listed() == nil { // from the future: the clock was wrong; without models: an older version saved it
			err := l.Refresh(ctx)
			if ctx.Err() != nil {
				return
			}
			report(err)
			wait, pause = pause, min(2*pause, maxRetry)
			if saveErr := (*saveError)(nil); err == nil || errors.As(err, &saveErr) {
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
