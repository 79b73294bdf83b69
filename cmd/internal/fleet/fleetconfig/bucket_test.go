package fleetconfig

import (
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// TestDocumentOfNewerVersion: a document is read, whatever else a newer version stores with it. Its
// text is strict: TestRefusedByBox.
func TestDocumentOfNewerVersion(t *testing.T) {
	b := &bucket{c: &fleet.Conn{}}
	d, err := b.open(b.c.Seal(purpose, []byte(`{"version":3,"signed":[1],"pushed_by":"root@a","text":"routes: {}"}`)))
	if err != nil || d.Version != 3 || d.PushedBy != "root@a" || d.Text != "routes: {}" {
		t.Errorf("%+v, %v", d, err)
	}
}
