package control

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Models is the answer of GET /v1/models.
type Models struct {
	Models []Model `json:"models"`
}

// Model is the model of a server. A value that is not known is null.
type Model struct {
	Name   string    `json:"name"` // of its server
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	Load   string    `json:"load"` // always or on_demand
	Pinned bool      `json:"pinned"`
	Model  string    `json:"model"` // path

	GPUs              []int   `json:"gpus"`                // indexes of those that its process is on, or is put on; null = it has no process
	SizeBytes         *uint64 `json:"size_bytes"`          // of its files
	VRAMNeedBytes     *uint64 `json:"vram_need_bytes"`     // what it is planned with: estimated or configured, and then measured
	VRAMMeasuredBytes *uint64 `json:"vram_measured_bytes"` // the most that its processes have held

	// Placements is where it can be loaded: on each of several GPUs alone, and split over all of
	// them, or only where the configuration puts it. null = unknown, or it needs no GPU.
	Placements []Placement `json:"placements"`

	// PromptCache is whether prompts that are cached survive an unload: "kept across unloads",
	// "not supported: reason", or "" if it is not known yet or the model is always loaded.
	PromptCache string `json:"prompt_cache"`

	LastUsed    *time.Time     `json:"last_used"`    // null = not since llmsup started
	LoadSeconds *float64       `json:"load_seconds"` // measured, smoothed
	Calls       int64          `json:"calls"`        // since llmsup started
	Loads       int            `json:"loads"`        // since then, by calls and operators
	Unloads     map[string]int `json:"unloads"`      // since then, by cause
	Ready       *time.Time     `json:"ready"`        // when a model that loads, or that calls wait for, is expected to answer

	Download *Download `json:"download"` // null = its file is there

	LoadProgress *float64   `json:"load_progress"` // as that of its server in the status
	Waiting      int        `json:"waiting"`       // calls that wait for it to be loaded
	WaitingSince *time.Time `json:"waiting_since"` // when the first of them arrived; null = there are none
}

// Placement is the GPUs on which a model is loaded at once.
type Placement []PlacedOn

// PlacedOn is a GPU of a Placement.
type PlacedOn struct {
	GPU       int     `json:"gpu"`        // index
	NeedBytes *uint64 `json:"need_bytes"` // what the model is planned with on this GPU, and the planner's margin; null = unknown
}

// UnloadRequest is the body of POST /v1/unload.
type UnloadRequest struct {
	Server string `json:"server"`
	Now    bool   `json:"now"` // its calls get no time to end; they continue on the fallback
}

// LoadRequest is the body of POST /v1/load.
type LoadRequest struct {
	Server string `json:"server"`
}

// Loader loads and unloads models for an operator.
type Loader interface {
	// Load loads a server's model, and emits each step until it is loaded. The load
	// continues if ctx ends.
	Load(ctx context.Context, server string, emit func(Step) error) error
	// Unload unloads it in the same way.
	Unload(ctx context.Context, how UnloadRequest, emit func(Step) error) error
}

func handleLoads(mux *http.ServeMux, daemon Loader) {
	mux.HandleFunc("POST /v1/load", func(w http.ResponseWriter, r *http.Request) {
		var which LoadRequest
		if readBody(w, r, &which, "server") {
			streamSteps(w, func(emit func(Step) error) error { return daemon.Load(r.Context(), which.Server, emit) })
		}
	})
	mux.HandleFunc("POST /v1/unload", func(w http.ResponseWriter, r *http.Request) {
		var how UnloadRequest
		if readBody(w, r, &how, "server and now") {
			streamSteps(w, func(emit func(Step) error) error { return daemon.Unload(r.Context(), how, emit) })
		}
	})
}

// Models returns the models of all servers.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	answer, err := get[Models](ctx, c, "/v1/models")
	return answer.Models, err
}

// Load loads a server's model, and emits each step.
func (c *Client) Load(ctx context.Context, server string, emit func(Step) error) error {
	body, err := json.Marshal(LoadRequest{server})
	if err != nil {
		return err
	}
	return c.steps(ctx, "/v1/load", body, emit)
}

// Unload unloads a server's model, and emits each step.
func (c *Client) Unload(ctx context.Context, how UnloadRequest, emit func(Step) error) error {
	body, err := json.Marshal(how)
	if err != nil {
		return err
	}
	return c.steps(ctx, "/v1/unload", body, emit)
}

// Download is the download of a model. A value that is not known is null.
type Download struct {
	Ref            string     `json:"ref"`              // hf:ORG/REPO:QUANT, or a URL
	DoneBytes      int64      `json:"done_bytes"`       // that are there
	TotalBytes     *int64     `json:"total_bytes"`      // null = it has not begun, too
	BytesPerSecond *float64   `json:"bytes_per_second"` // of the last seconds
	Problem        string     `json:"problem"`          // why the last try failed; "" = it runs
	NextTry        *time.Time `json:"next_try"`         // null = it runs
}
