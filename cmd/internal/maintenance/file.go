package maintenance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Path is the file in a state directory that remembers the record.
func Path(stateDir string) string { return filepath.Join(stateDir, "drain.json") }

// file is a Record as it is written: the drain of all servers in the fields of the
// object itself, as earlier versions wrote their only one, and the servers whose
// drain is another one.
type file struct {
	*Drain
	Servers map[string]Drain `json:"servers,omitempty"`
}

// Restore returns the record that is remembered, for the present servers, without the
// drains that are over by now, and saves it if that has changed it. warning says why it
// could not be read, and all servers are drained, or why it could not be saved.
func Restore(stateDir string, present []string, now time.Time) (r Record, warning string) {
	saved, problem := load(stateDir, now)
	// A server that the file does not list has the drain of all.
	r, _ = saved.Follow(present).Expire(now)
	switch {
	case problem != "":
		return r, "the servers stay drained: a drain is remembered, but " + problem + "; llmsup resume ends it"
	case r.Same(saved):
		return r, ""
	}
	if err := r.Save(stateDir); err != nil {
		return r, fmt.Sprintf("a drain that is over can't be removed from %s: %v", Path(stateDir), err)
	}
	return r, ""
}

// load returns the record that is remembered; none is an empty one. A file that
// can't be read means that all servers are drained: llmsup must not start a server
// while an operator works on its GPU.
func load(stateDir string, now time.Time) (r Record, problem string) {
	path := Path(stateDir)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ""
	}
	var f file
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err == nil {
		err = f.check()
	}
	if err != nil {
		all := Drain{Since: now, damaged: fmt.Sprintf("%s can't be read: %v", path, err)}
		return Record{All: &all}, all.damaged
	}
	return Record{All: f.Drain, Servers: f.Servers}, ""
}

// check rejects what is JSON and describes no drain.
func (f file) check() error {
	drains := Record{All: f.Drain, Servers: f.Servers}.drains()
	for _, drain := range drains {
		if drain.Since.IsZero() {
			return errors.New("it does not say since when")
		}
	}
	if len(drains) == 0 {
		return errors.New("it names no drain")
	}
	return nil
}

// content is what the file of a record contains.
func (r Record) content() file {
	f := file{Drain: r.All, Servers: map[string]Drain{}}
	for name, drain := range r.Servers {
		if r.All == nil || !drain.equal(*r.All) {
			f.Servers[name] = drain
		}
	}
	return f
}

// Same says whether the file would be the same for another record.
func (r Record) Same(other Record) bool {
	a, b := r.content(), other.content()
	if a.Drain == nil || b.Drain == nil {
		return a.Drain == b.Drain && maps.EqualFunc(a.Servers, b.Servers, Drain.equal)
	}
	return a.equal(*b.Drain) && maps.EqualFunc(a.Servers, b.Servers, Drain.equal)
}

// Save remembers the record, or removes the file of an empty one. Once it returns
// nil, a power cut does not undo that.
func (r Record) Save(stateDir string) error {
	path := Path(stateDir)
	if r.Empty() {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil // on a read-only file system, too
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		return syncDir(stateDir)
	}
	raw, err := json.Marshal(r.content())
	if err != nil {
		return err
	}
	// The file is made beside the old one: a rename does not cross file systems.
	if err := renameio.WriteFile(path, append(raw, '\n'), 0o600, renameio.WithTempDir(stateDir)); err != nil {
		return err
	}
	return syncDir(stateDir)
}

// syncDir makes a rename or a removal outlast a power cut, which renameio leaves to
// its caller.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
