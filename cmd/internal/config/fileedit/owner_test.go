package fileedit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOwnerOf(t *testing.T) {
	for name, tc := range map[string]struct {
		file, text string
		want       Owner
	}{
		"a box's":               {"llmsup.yaml", "listen: 127.0.0.1:1\nkeys: {}\n", OneBox},
		"a box's with keys":     {"llmsup.yaml", "keys: {}\n", OneBox},
		"another name":          {"gpu.yaml", "servers: {}\nkeys: {}\n", OneBox},
		"a box's in a fleet":    {"llmsup.yaml", "fleet: {name: a}\nkeys: {}\n", BoxInFleet},
		"what a fleet can have": {"fleet.yaml", "keys: {}\nroutes:\n  a: {primary: b}\nbudget: {daily: 1}\n", Fleet},
	} {
		path := filepath.Join(t.TempDir(), tc.file)
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := OwnerOf(path); got != tc.want || err != nil {
			t.Errorf("%s: %d, %v", name, got, err)
		}
	}
}
