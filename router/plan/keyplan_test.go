package plan

import (
	"net/http"
	"strings"
	"sync"
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
	p := s.PlanFor(&access.Key{Name: "crawler", FreeOnly: true}, "m", "")
	if e := p.Rejection; e.Status != http.StatusServiceUnavailable || e.Code != wire.CodeNoKey || !strings.HasPrefix(e.Message, "m goes to box, which has no API key") ||
		!strings.Contains(e.Message, "is free_only, so cloud was skipped") {
		t.Errorf("%+v", e)
	}
}

// TestPlansShareNoFallbacks: plans are made at the same time, of a list of fallbacks that
// has room for more.
func TestPlansShareNoFallbacks(t *testing.T) {
	fallbacks := append(make([]models.Fallback, 0, 4), models.Fallback{To: "http://127.0.0.1:1"}, models.Fallback{To: "http://127.0.0.1:2"})
	table, err := models.NewTable(map[string]models.Route{"m": {Primary: "http://127.0.0.1:3", Fallbacks: fallbacks}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewRouting(Config{Table: table}, &Routing{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() { s.Plan("m") })
	}
	group.Wait()
	if room := fallbacks[:cap(fallbacks)]; room[2] != (models.Fallback{}) {
		t.Errorf("a plan wrote into the table: %+v", room)
	}
}
