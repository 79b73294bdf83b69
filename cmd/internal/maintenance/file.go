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

// Path returns the file in a state directory that stores the record.
func Path(stateDir string) string { return filepath.Join(stateDir, "drain.json") }

// file is the stored form of a Record: the drain of all servers in the fields of the
// object itself, as earlier versions wrote their only drain, and the servers whose drain
// differs.
type file struct {
	*Drain
	Servers map[string]Drain `json:"servers,omitempty"`
}

// Restore returns the stored record for the present servers, without the drains that have
// expired, and saves it if it has changed. warning is why the record could not be read,
// so that all servers are drained, or why it could not be saved.
func Restore(stateDir string, present []string, now time.Time) (r Record, warning string) {
	saved, problem := load(stateDir, now)
	// A server that the file does not list has the drain of all.
	r, _ = saved.Follow(present).Expire(now)
	switch {
	case problem != "":
		return r, "the servers stay drained: there is a saved drain, but " + problem + "; llmsup resume ends it"
	case r.Same(saved):
		return r, ""
	}
	if err := r.Save(stateDir); err != nil {
		return r, fmt.Sprintf("cannot remove an expired drain from %s: %v", Path(stateDir), err)
	}
	return r, ""
}

// load returns the stored record, which is empty if there is no file. If the file cannot
// be read, all servers are drained: llmsup must not start a server while an operator
// works on its GPU.
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
		all := Drain{Since: now, damaged: fmt.Sprintf("%s cannot be read: %v", path, err)}
		return Record{All: &all}, all.damaged
	}
	return Record{All: f.Drain, Servers: f.Servers}, ""
}

// check rejects JSON that describes no drain.
func (f file) check() error {
	drains := Record{All: f.Drain, Servers: f.Servers}.drains()
	for _, drain := range drains {
		if drain.Since.IsZero() {
			return errors.New("it has no start time")
		}
	}
	if len(drains) == 0 {
		return errors.New("it contains no drain")
	}
	return nil
}

// content returns the stored form of a record.
func (r Record) content() file {
	f := file{Drain: r.All, Servers: map[string]Drain{}}
	for name, drain := range r.Servers {
		if r.All == nil || !drain.equal(*r.All) {
			f.Servers[name] = drain
		}
	}
	return f
}

// Same reports whether two records have the same stored form.
func (r Record) Same(other Record) bool {
	a, b := r.content(), other.content()
	if a.Drain == nil || b.Drain == nil {
		return a.Drain == b.Drain && maps.EqualFunc(a.Servers, b.Servers, Drain.equal)
	}
	return a.equal(*b.Drain) && maps.EqualFunc(a.Servers, b.Servers, Drain.equal)
}

// Save stores the record, or removes the file of an empty one. Once it returns nil, the
// change survives a power failure.
func (r Record) Save(stateDir string) error {
	path := Path(stateDir)
	if r.Empty() {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil // also on a read-only file system
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
	// The temporary file is in the same directory: a rename does not cross file systems.
	if err := renameio.WriteFile(path, append(raw, '\n'), 0o600, renameio.WithTempDir(stateDir)); err != nil {
		return err
	}
	return syncDir(stateDir)
}

// syncDir makes a rename or a removal survive a power failure, which renameio leaves to
// its caller.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
