package report

import (
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// TestPartOfNewerVersion: a part of an answer is read, whatever else a newer version sends with it.
func TestPartOfNewerVersion(t *testing.T) {
	c := &fleet.Conn{}
	p, err := openPart(c, c.Seal(answerPurpose, []byte(`{"id":"q","box":"a","instance":"i","part":1,"parts":2,"status":200,"took":{"ms":1}}`+"\nbody")))
	if err != nil || p.ID != "q" || p.Part != 1 || p.Parts != 2 || p.Status != 200 || string(p.body) != "body" {
		t.Errorf("%+v, %v", p, err)
	}
}
