package plan

import (
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
)

// fakeLocal is a local server in a fixed state.
type fakeLocal backend.LocalState

func (f fakeLocal) State() backend.LocalState            { return backend.LocalState(f) }
func (fakeLocal) AddDemand(bool)                         {}
func (fakeLocal) BusySlots(context.Context) (int, error) { return 0, nil }

// engines are the engines of the local servers, by the Status in localStates.
var engines = map[string]*models.Capabilities{
	"":    {Program: "engine", Public: []string{chatPath, "/v1/embeddings"}, Generating: []string{chatPath}, Endpoints: []models.Endpoint{{Path: "/tokenize"}}},
	"any": {Program: "whisper-server"},
}

// Engine implements backend.Local.
func (f fakeLocal) Engine() *models.Capabilities { return engines[f.Status] }

var embeds = &models.Description{Abilities: []models.Ability{models.Embedding}}

// localStates are the states of a local server that lead to different plans.
var localStates = map[string]*fakeLocal{
	"ready":               {Alive: true},
	"degraded":            {Reason: backend.Degraded, Detail: "is degraded", Alive: true},
	"loading":             {Reason: backend.Loading, Detail: "is loading", Returning: true},
	"draining":            {Reason: backend.Draining, Detail: "is draining", Returning: true},
	"unloaded":            {Reason: backend.Unloaded, Detail: "is unloaded", Returning: true},
	"failed":              {Reason: backend.Failed, Detail: "has failed"},
	"embeds":              {Alive: true, Description: embeds},
	"any engine":          {Alive: true, Status: "any"},
	"any engine unloaded": {Reason: backend.Unloaded, Detail: "is unloaded", Returning: true, Status: "any"},
	"ranks, loading": {
		Reason: backend.Loading, Detail: "is loading", Returning: true, Description: &models.Description{Abilities: []models.Ability{models.Rerank}},
	},
}

const chatPath = "/v1/chat/completions"

// newRouting makes a routing with the servers qwen and mini in these states, and the
// upstreams cloud, which is metered, keyless, whose key is missing, and lan, which is free.
func newRouting(t *testing.T, qwen, mini string, routes map[string]models.Route, edits ...func(*Config)) *Routing {
	t.Helper()
	cfg := Config{
		Locals: map[string]backend.Local{"qwen": localStates[qwen], "mini": localStates[mini]},
		Upstreams: []backend.UpstreamConfig{
			{Name: "cloud", BaseURL: "http://127.0.0.1:1", Key: "secret"},
			{Name: "keyless", BaseURL: "http://127.0.0.1:1", Missing: "set KEY"},
			{Name: "lan", BaseURL: "http://127.0.0.1:1"},
		},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	if cfg.Table, err = models.NewTable(routes); err != nil {
		t.Fatal(err)
	}
	s, err := NewRouting(cfg, &Routing{}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names returns the candidates that are not skipped, in their order.
func names(p Plan) string {
	var all []string
	for _, c := range Kept(p.Candidates) {
		all = append(all, c.Name)
	}
	return strings.Join(all, " ")
}

// skipped returns why each other candidate is skipped.
func skipped(p Plan) string {
	var all []string
	for _, c := range p.Candidates {
		if c.skipReason != "" {
			all = append(all, c.skipReason)
		}
	}
	return strings.Join(all, "; ")
}
