package fileedit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
)

// Owner says who reads a configuration file.
type Owner int

// The owners.
const (
	OneBox     Owner = iota // a box without a fleet
	BoxInFleet              // a box; what its fleet defines counts instead
	Fleet                   // all boxes of a fleet: the file is pushed
)

// OwnerOf returns who reads a file, by what is in it. A file that has only sections which a fleet
// can define is one for a fleet, unless it has the name of a box's file.
func OwnerOf(path string) (Owner, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return OneBox, err
	}
	var sections map[string]yaml.Node
	if err := yaml.Unmarshal(raw, &sections); err != nil {
		return OneBox, fmt.Errorf("read %s: %w", path, err)
	}
	if _, has := sections["fleet"]; has {
		return BoxInFleet, nil
	}
	for name := range sections {
		if !slices.Contains(config.SharedSections, name) {
			return OneBox, nil
		}
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if filepath.Base(path) == filepath.Base(paths.ServiceFile) {
		return OneBox, nil
	}
	return Fleet, nil
}
