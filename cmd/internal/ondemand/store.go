package ondemand

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

// measured is what has been measured of a version of a model.
type measured struct {
	signature string
	bytes     map[string]uint64 // the most VRAM that it held, by the UUID of the GPU
	whole     map[string]bool   // those of bytes that were read after it had answered a call
	tooLittle bool              // a load has run out of VRAM, so that bytes may be less than a load needs
	loadTime  time.Duration     // smoothed; 0 = not measured
}

// store is the file with what has been measured, so that it is known after a restart.
type store struct {
	path  string
	saved map[string]record // by the server's name
}

// record is the stored form of measured.
type record struct {
	Signature   string            `json:"signature"`
	VRAM        map[string]uint64 `json:"vram_bytes"`
	Whole       map[string]bool   `json:"whole,omitempty"`
	TooLittle   bool              `json:"too_little,omitempty"`
	LoadSeconds float64           `json:"load_seconds"`
}

func (r record) equal(other record) bool {
	return r.Signature == other.Signature && r.LoadSeconds == other.LoadSeconds && r.TooLittle == other.TooLittle &&
		maps.Equal(r.VRAM, other.VRAM) && maps.Equal(r.Whole, other.Whole)
}

// openStore reads the file in a state directory. The store is usable after an error, too.
func openStore(dir string) (store, error) {
	s := store{path: filepath.Join(dir, "needs.json"), saved: map[string]record{}}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		if err = json.Unmarshal(raw, &s.saved); err != nil {
			err = fmt.Errorf("%s: %w", s.path, err)
		}
	}
	if s.saved == nil {
		s.saved = map[string]record{}
	}
	return s, err
}

// of returns what was measured of a version of a server's model.
func (s *store) of(name, signature string) measured {
	m := measured{signature: signature, bytes: map[string]uint64{}, whole: map[string]bool{}}
	if r, ok := s.saved[name]; ok && r.Signature == signature {
		maps.Copy(m.bytes, r.VRAM)
		maps.Copy(m.whole, r.Whole)
		m.tooLittle, m.loadTime = r.TooLittle, time.Duration(r.LoadSeconds*float64(time.Second))
	}
	return m
}

// save writes what has been measured, if it has changed. Servers that are no longer
// configured are forgotten.
func (o *Owner) save() {
	next := map[string]record{}
	for name, m := range o.models {
		if m.signature != "" && (len(m.bytes) > 0 || m.loadTime > 0) {
			next[name] = record{m.signature, maps.Clone(m.bytes), maps.Clone(m.whole), m.tooLittle, m.loadTime.Seconds()}
		} else if r, ok := o.store.saved[name]; ok {
			next[name] = r
		}
	}
	if maps.EqualFunc(next, o.store.saved, record.equal) {
		return
	}
	raw, err := json.Marshal(next)
	if err == nil {
		err = renameio.WriteFile(o.store.path, append(raw, '\n'), 0o600, renameio.WithTempDir(filepath.Dir(o.store.path)))
	}
	if err != nil {
		o.log.Warn().Err(err).Msg("cannot save the measured VRAM needs of the models; they are measured again after a restart")
		return
	}
	o.store.saved = next
}
