package plan

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// TestFreeKeyWithoutUpstreamKey: the error of a call whose primary lacks its key, and whose
// fallback its own key may not pay, names both.
func TestFreeKeyWithoutUpstreamKey(t *testing.T) {
	table, err := models.NewTable(map[string]models.Route{"m": {Primary: "box", Fallback: "cloud"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewRouting(Config{Table: table, Upstreams: []backend.UpstreamConfig{
		{Name: "box", BaseURL: "http://127.0.0.1:1", Missing: "set BOX_KEY"}, {Name: "cloud", BaseURL: "http://127.0.0.1:1", Key: "k"},
	}}, &Routing{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	p := s.PlanFor(&access.Key{Name: "crawler", FreeOnly: true}, "m")
	if e := p.Refuse; e.Status != http.StatusServiceUnavailable || e.Code != wire.CodeNoKey || !strings.HasPrefix(e.Message, "m goes to box, which has no key") ||
		!strings.Contains(e.Message, "may not spend money, so cloud is not asked") {
		t.Errorf("%+v", e)
	}
}
