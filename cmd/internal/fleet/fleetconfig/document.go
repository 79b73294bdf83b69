package fleetconfig

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/control"
)

// Document is a version of a fleet's configuration.
type Document = control.FleetDocument

// parse returns the sections of a document. Its errors name the version and the line.
func parse(d *Document) (*config.Shared, error) {
	if d.Text == "" { // the fleet defines nothing any more
		return &config.Shared{Version: d.Version}, nil
	}
	return config.ParseShared(fmt.Sprintf("the fleet's version %d", d.Version), []byte(d.Text), d.Version)
}

// saved is the content of the file with the last document that this box has applied.
type saved struct {
	Fleet    string   `json:"fleet"` // the fleet that it is of: fleet.Conn.Fleet
	Document Document `json:"document"`
}

// fileOf returns the path of that file.
func fileOf(stateDir string) string {
	return filepath.Join(stateDir, "fleet", "configuration.json")
}

// load reads the file; nil = there is none.
func load(stateDir string) (*saved, error) {
	path := fileOf(stateDir)
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var s saved
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.Document.Version == 0 {
		err = fmt.Errorf("it has no version")
	}
	if err != nil {
		return nil, fmt.Errorf("read the fleet's configuration: %w; remove %s to start without it until the fleet sends it again", err, path)
	}
	return &s, nil
}

// Saved returns the last configuration of the fleet that the box with a state directory has
// applied, with which it starts; nil = none.
func Saved(stateDir string) (*config.Shared, error) {
	s, err := load(stateDir)
	if s == nil || err != nil {
		return nil, err
	}
	shared, err := parse(&s.Document)
	if err != nil { // an older llmsup may not know all keys
		return nil, fmt.Errorf("%w; it is in %s: remove that to start without it until the fleet sends another one", err, fileOf(stateDir))
	}
	return shared, nil
}

// save writes the file. A crash leaves the old one or the new one.
func (s *saved) save(stateDir string) error {
	path := fileOf(stateDir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, raw, 0o600)
}
