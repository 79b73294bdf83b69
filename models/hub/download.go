package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Progress is the state of a download.
type Progress struct {
	Done, Total int64 // bytes of all files, those included that were there before; Total -1 = unknown
	Before      int64 // bytes of Done that were there before
	Phase       Phase
}

// Phase is what a download is doing.
type Phase string

// Phases of a download.
const (
	Waiting     Phase = "waiting"     // another process downloads the same file
	Downloading Phase = "downloading" // bytes arrive, or the server is asked for them
	Verifying   Phase = "verifying"   // it compares the SHA-256 of a file on the disk with the hub's
)

const (
	reportInterval = 200 * time.Millisecond
	lockInterval   = 250 * time.Millisecond
)

// Download downloads all files of a model into dir and returns the path of the first. Files
// are at dir/ORG/REPO/PATH, and that of a URL at dir/HOST-HASH/NAME. What is there already
// with the right hash is kept; of a file that was not finished, the rest is downloaded. report
// may be nil; it is called from one goroutine at a time.
//
// Files get their names when all of them are whole and verified. When the context ends, what
// is there is kept for the next time.
func (c *Client) Download(ctx context.Context, v Variant, dir string, report func(Progress)) (path string, err error) {
	c.setup()
	d := &download{client: c, total: v.Size()}
	for _, f := range v.Files {
		d.targets = append(d.targets, &target{File: f, path: f.Local(dir)})
	}
	defer d.close()
	stop := d.report(report)
	defer stop()
	if err := d.prepare(ctx); err != nil {
		return "", err
	}
	if err := d.complete(ctx); err != nil {
		return "", err
	}
	// The first is what a model is known by, so it comes last.
	for _, t := range slices.Backward(d.targets) {
		if t.partial != nil {
			if err := t.partial.finish(t.path); err != nil {
				return "", err
			}
		}
	}
	return d.targets[0].path, nil
}

// download is one download of all files of a model.
type download struct {
	client  *Client
	targets []*target
	total   int64 // bytes; -1 = unknown

	phase  atomic.Value // Phase
	done   atomic.Int64 // bytes of all files
	before atomic.Int64 // bytes of done that were there before
}

// target is a file of a download.
type target struct {
	File
	path    string
	found   fs.FileInfo // of what has its name already; nil = nothing
	there   bool        // and it is the right one
	partial *partial    // is locked
}

// report calls a function regularly until the returned one is called, and then once more.
func (d *download) report(report func(Progress)) (stop func()) {
	d.phase.Store(Downloading)
	if report == nil {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(reportInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				report(d.progress())
			case <-quit:
				report(d.progress())
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

func (d *download) progress() Progress {
	phase, _ := d.phase.Load().(Phase)
	done := d.done.Load()
	return Progress{Before: min(d.before.Load(), done), Done: done, Total: d.total, Phase: phase}
}

// prepare finds which files are there, and checks that the disk has room for the others.
func (d *download) prepare(ctx context.Context) error {
	missing := int64(0)
	for _, t := range d.targets {
		if err := makeFolderOf(t.path); err != nil {
			return permanentError{err}
		}
		if err := d.look(ctx, t); err != nil {
			return err
		}
		if !t.there && t.Size > 0 {
			missing += max(t.Size-allocated(t.path+partialSuffix), 0)
		}
	}
	return checkSpace(d.targets[0].path, missing)
}

// look finds out whether a file is there, unless it is what was found before.
func (d *download) look(ctx context.Context, t *target) error {
	info, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return permanentError{err}
	case !info.Mode().IsRegular():
		return permanentErrorf("%s is there already, and is not a regular file: remove it, or choose another folder", t.path)
	case t.found != nil && os.SameFile(t.found, info):
		return nil
	}
	t.found = info
	// Without a hash, the size and the time are all that there is to compare.
	if t.Size != info.Size() || t.SHA256 == "" && t.modified.After(info.ModTime()) {
		return nil
	}
	if t.SHA256 != "" {
		d.phase.Store(Verifying)
		defer d.phase.Store(Downloading)
		file, err := os.Open(t.path)
		if err != nil {
			return permanentError{err}
		}
		defer file.Close()
		sum, err := hash(ctx, file, t.Size)
		if err != nil || sum != t.SHA256 {
			return err
		}
	}
	t.there = true
	d.done.Add(t.Size)
	d.before.Add(t.Size)
	return nil
}

// complete downloads what is missing, file after file, and verifies each while the next is
// downloaded.
func (d *download) complete(ctx context.Context) error {
	verified, ctx := errgroup.WithContext(ctx)
	verified.SetLimit(1)
	last := Downloading // the phase at the end: nothing is verified without a hash
	for _, t := range d.targets {
		if t.there {
			continue
		}
		if err := d.completeFile(ctx, t); err != nil {
			if failed := verified.Wait(); failed != nil { // it ended the download
				return failed
			}
			return err
		}
		if t.partial != nil && t.SHA256 != "" {
			last = Verifying
			verified.Go(func() error { return t.verify(ctx) })
		}
	}
	d.phase.Store(last)
	return verified.Wait()
}

// completeFile downloads what is missing of a file.
func (d *download) completeFile(ctx context.Context, t *target) error {
	if err := d.lock(ctx, t); err != nil {
		return err
	}
	if err := d.look(ctx, t); err != nil { // another process may have finished it
		return err
	}
	if p := t.partial; t.there {
		t.partial = nil
		p.remove()
		return p.file.Close()
	}
	err := d.fetch(ctx, t)
	if _, rejected := errors.AsType[notGGUFError](err); rejected {
		t.partial.remove()
	}
	return err
}

// lock opens and locks the partial of a file. It waits for a process that has the lock.
func (d *download) lock(ctx context.Context, t *target) error {
	p := &partial{path: t.path + partialSuffix, size: t.Size, sum: &d.done}
	for {
		file, err := lockPartial(p.path)
		if err == nil {
			d.phase.Store(Downloading)
			p.file, t.partial = file, p
			return adoptOwner(file, p.path)
		}
		if !errors.Is(err, errLocked) {
			return permanentError{err}
		}
		d.phase.Store(Waiting)
		select {
		case <-time.After(lockInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fetch downloads what is missing of a file, in pieces if the server sends such.
func (d *download) fetch(ctx context.Context, t *target) error {
	if t.Size > 0 && !t.whole {
		piece := max(d.client.pieceSize, (t.Size+maxPieces-1)/maxPieces)
		if d.client.pieceSize == 0 {
			piece = max(minPieceSize, piece)
		}
		if err := t.partial.resume(t.File, piece); err != nil {
			return writeError(t.partial.path, err)
		}
		d.before.Add(t.partial.there())
		if err := d.client.fetch(ctx, t.File, t.partial); !errors.Is(err, errNoRanges) {
			return err
		}
	}
	return d.client.fetchWhole(ctx, t.File, t.partial)
}

// ErrDamaged means that a file arrived with another SHA-256 than that of the hub.
var ErrDamaged = errors.New("the file is damaged")

// verify compares a whole file's hash with the hub's.
func (t *target) verify(ctx context.Context) error {
	sum, err := hash(ctx, t.partial.file, t.Size)
	if err != nil || sum == t.SHA256 {
		return err
	}
	t.partial.remove()
	return permanentErrorf("%w: %s arrived with the SHA-256 %s instead of %s, and was deleted: download it again; if it happens twice, its copy at the hub is damaged", ErrDamaged, t.Path, sum, t.SHA256)
}

// hash returns the SHA-256 of the first bytes of a file.
func hash(ctx context.Context, file *os.File, size int64) (string, error) {
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	for r := io.NewSectionReader(file, 0, size); ; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := r.Read(buffer)
		_, _ = sum.Write(buffer[:n]) // never fails
		switch {
		case errors.Is(err, io.EOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		case err != nil:
			return "", permanentError{err}
		}
	}
}

// close releases the locks, and removes what nothing was downloaded of.
func (d *download) close() {
	for _, t := range d.targets {
		if p := t.partial; p != nil {
			if p.there() == 0 {
				p.remove()
			}
			_ = p.file.Close()
		}
	}
}
