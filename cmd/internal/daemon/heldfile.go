package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// held is a drain as it is remembered: over a restart of llmsup, and of the
// machine.
type held struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"` // when it ends by itself; zero = never
	Keep  bool      `json:"keep_server,omitempty"`

	damaged string // why the file that it was read from says nothing
}

// words tells of it for a server's reason.
func (h held) words() string {
	switch {
	case h.damaged != "":
		return "a drain is remembered, but " + h.damaged + "; llmsup resume ends it"
	case h.Until.IsZero():
		return "taken out of use by an operator at " + clock(h.Since) + ", until llmsup resume"
	}
	return "taken out of use by an operator at " + clock(h.Since) + ", until " + clock(h.Until)
}

func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

func heldPath(stateDir string) string { return filepath.Join(stateDir, "drain.json") }

// readHeld returns the drain that is remembered; nil = there is none. One that
// can't be read is one all the same: whoever works at the GPU must not be surprised
// by a server on it.
func readHeld(stateDir string) *held {
	path := heldPath(stateDir)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	h := &held{}
	if err == nil {
		err = json.Unmarshal(raw, h)
	}
	if err != nil {
		return &held{Since: time.Now(), damaged: fmt.Sprintf("%s can't be read: %v", path, err)}
	}
	return h
}

// keep remembers a drain. When it returns, no power cut undoes it.
func (h held) keep(stateDir string) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return err
	}
	path := heldPath(stateDir)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		_ = os.Remove(path + ".new")
		return err
	}
	return syncDir(stateDir)
}

// forgetHeld forgets the drain that is remembered, if there is one.
func forgetHeld(stateDir string) error {
	if _, err := os.Lstat(heldPath(stateDir)); errors.Is(err, fs.ErrNotExist) {
		return nil // on a file system that is read-only too
	}
	if err := os.Remove(heldPath(stateDir)); err != nil {
		return err
	}
	return syncDir(stateDir)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
