package modelfiles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fit"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/vram"
)

const (
	// maxFiles limits the files that are listed.
	maxFiles = 200
	// readTimeout is the time to read folders and headers.
	readTimeout = 5 * time.Second
	// answerTimeout is how long List waits for a disk that does not answer.
	answerTimeout = readTimeout + 2*time.Second
)

// Request says what to list.
type Request struct {
	Folders []string // the first is where to put further models; they need not exist
	Used    []string // files that servers use, of a split model any part
	Box     fit.Box  // the GPUs on which a model could be loaded
	Run     vram.Run // with which the need is estimated
}

// Lister lists files. Its zero value is ready, and safe for concurrent use.
type Lister struct {
	mu      sync.Mutex
	running *scan

	known map[string]header // by path; of the running scan, or of the last one
}

// scan is one reading of the folders.
type scan struct {
	ended  chan struct{}
	result control.ModelFiles
}

// List returns the files in the folders and at most three levels below them. Requests at the
// same time share one reading.
func (l *Lister) List(ctx context.Context, r Request) (control.ModelFiles, error) {
	s := l.start(r)
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	select {
	case <-s.ended:
		return s.result, nil
	case <-ctx.Done():
		return control.ModelFiles{}, ctx.Err()
	case <-timeout.C:
		return control.ModelFiles{}, errors.New("a disk with models does not answer")
	}
}

// start returns the scan that runs, or starts one.
func (l *Lister) start(r Request) *scan {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return l.running
	}
	s := &scan{ended: make(chan struct{})}
	l.running = s
	go func() {
		s.result = l.read(r, time.Now().Add(readTimeout))
		l.mu.Lock()
		l.running = nil
		l.mu.Unlock()
		close(s.ended)
	}()
	return s
}

// read reads the folders and the headers until a time.
func (l *Lister) read(r Request, until time.Time) control.ModelFiles {
	found, incomplete := find(r.Folders, until)
	used := usedBy(r.Used)
	found = slices.DeleteFunc(found, func(f file) bool { return used[f.model] })
	if len(found) > maxFiles {
		found, incomplete = found[:maxFiles], fmt.Sprintf("only the first %d files are shown", maxFiles)
	}
	known, unread := map[string]header{}, 0
	list := control.ModelFiles{CtxSize: r.Run.CtxSize, Files: []control.ModelFile{}}
	if len(r.Folders) > 0 {
		list.Folder = r.Folders[0]
	}
	for _, f := range found {
		h, ok := l.known[f.path]
		if !ok || h.version != f.version {
			if ok = time.Now().Before(until); ok {
				h = readHeader(f, r)
			}
		}
		if ok {
			known[f.path] = h
		} else {
			unread++
		}
		list.Files = append(list.Files, f.describe(h, r))
	}
	list.Files = append(list.Files, unfinished(r.Folders)...)
	if unread > 0 {
		incomplete = fmt.Sprintf("%d files were not read within %s; read again for more", unread, readTimeout)
	}
	l.known, list.Incomplete = known, incomplete
	return list
}

// unfinished returns the downloads in the folder for models that are not finished.
func unfinished(folders []string) (list []control.ModelFile) {
	if len(folders) == 0 {
		return nil
	}
	partials, err := hub.Partials(folders[0])
	if err != nil {
		return nil // the models in it are missing for the same reason
	}
	for _, p := range partials {
		f := control.ModelFile{Path: p.Path, Name: nameOf(p.Path), Parts: 1, SizeBytes: uint64(max(p.Done, 0)), Kind: control.KindUnfinished}
		if p.Size > 0 {
			f.TotalBytes = new(uint64(p.Size))
		}
		list = append(list, f)
	}
	return list
}
