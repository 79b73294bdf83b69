package control

import (
	"context"
	"net/http"
)

// Disk has the model files that no server uses.
type Disk interface {
	ModelFiles(ctx context.Context) (ModelFiles, error)
}

func handleDisk(mux *http.ServeMux, daemon Disk) {
	mux.HandleFunc("GET /v1/files", func(w http.ResponseWriter, r *http.Request) {
		list, err := daemon.ModelFiles(r.Context())
		if err != nil {
			reject(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		writeJSON(w, http.StatusOK, list)
	})
}

// ModelFiles returns the model files that no server uses. It waits some seconds for a slow disk.
func (c *Client) ModelFiles(ctx context.Context) (ModelFiles, error) {
	return get[ModelFiles](ctx, c, "/v1/files")
}

// ModelFiles are the GGUF files on disk that no server uses.
type ModelFiles struct {
	Folder  string      `json:"folder"`   // where to put further models
	CtxSize int         `json:"ctx_size"` // tokens, with which the need is estimated
	Files   []ModelFile `json:"files"`
	// Incomplete is why Files does not have all files, or no figures of some; "" = it has.
	Incomplete string `json:"incomplete"`
}

// The kinds of a ModelFile.
const (
	KindModel     = "model"
	KindProjector = "projector" // that a model needs to read images or sound
	KindUnusable  = "unusable"  // Problem says why

	KindUnfinished = "unfinished" // a download: SizeBytes are there of TotalBytes
)

// ModelFile is a GGUF file, or all parts of a split model. A value that is not known is null
// or "".
type ModelFile struct {
	Name         string      `json:"name"`
	Path         string      `json:"path"` // of a split model, its first part
	Parts        int         `json:"parts"`
	SizeBytes    uint64      `json:"size_bytes"` // of all parts
	Kind         string      `json:"kind"`
	Quantization string      `json:"quantization"`
	Parameters   *uint64     `json:"parameters"`
	Context      *int        `json:"trained_context"` // tokens
	NeedBytes    *uint64     `json:"vram_need_bytes"` // estimated, on one GPU
	Uncertain    string      `json:"uncertain"`       // why the estimate may be far off
	Placements   []Placement `json:"placements"`      // as those of a Model
	// LargestContext is the largest with which it fits, in tokens, once other models have left; 0 =
	// none.
	LargestContext *int    `json:"largest_context"`
	Problem        string  `json:"problem"`
	TotalBytes     *uint64 `json:"total_bytes"` // of an unfinished download, once it is finished
}
