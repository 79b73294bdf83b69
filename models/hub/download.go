package hub

import (
	"context"
	"errors"
)

// Progress is the state of a download.
type Progress struct {
	Done, Total int64 // bytes of all files, those included that were there before; Total -1 = unknown
	Phase       Phase
}

// Phase is what a download is doing.
type Phase string

// Phases of a download.
const (
	Waiting     Phase = "waiting"     // another process downloads the same file
	Downloading Phase = "downloading" //
	Verifying   Phase = "verifying"   // it compares the SHA-256 of a file on the disk with the hub's
)

const defaultConnections = 8

// Download downloads all files of a model into dir and returns the path of the first. Files
// are at dir/ORG/REPO/PATH, and that of a URL at dir/NAME. report may be nil; it is
// called from one goroutine at a time.
func (c *Client) Download(ctx context.Context, v Variant, dir string, report func(Progress)) (path string, err error) {
	return "", errors.New("not implemented")
}

// Partial is a download that was not finished.
type Partial struct {
	Path  string   // of the file that it becomes
	Done  int64    // bytes
	Size  int64    // bytes of the whole file; -1 = unknown
	Files []string // to remove
}

// Partials returns the downloads that were not finished in a folder and those below it.
func Partials(dir string) ([]Partial, error) { return nil, nil }
