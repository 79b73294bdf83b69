package control

// Fit is how the quantisations of a model fit the GPUs of a box. A value that is not known is null
// or "".
type Fit struct {
	Model        string  `json:"model"` // what was asked for: a reference, a path, or the name of a server
	Name         string  `json:"name"`  // that the files give it
	Architecture string  `json:"architecture"`
	Parameters   *uint64 `json:"parameters"`
	Context      *int    `json:"trained_context"` // tokens
	CtxSize      int     `json:"ctx_size"`        // tokens, for which the needs are

	GPUs       []FitGPU     `json:"gpus"`
	GPUProblem string       `json:"gpu_problem"` // why there are none
	Variants   []FitVariant `json:"variants"`    // the smallest first

	// Choice is the name of the variant that `llmsup pull` takes if none is named, and ChoiceReason
	// why; "" = it cannot say.
	Choice       string `json:"choice"`
	ChoiceReason string `json:"choice_reason"`
}

// FitGPU is a GPU on which a model could be loaded.
type FitGPU struct {
	Index      int     `json:"index"`
	Name       string  `json:"name"`
	TotalBytes *uint64 `json:"memory_total_bytes"`
	// UsableBytes is the most that a model may need there once llmsup's other models have left, and
	// UsableNowBytes before: without what other processes hold, and the planner's margin.
	UsableBytes    *uint64 `json:"usable_bytes"`
	UsableNowBytes *uint64 `json:"usable_now_bytes"`
}

// Whether a model fits.
const (
	FitsNow   = "now"
	FitsLater = "later" // once llmsup's other models have left
	FitsNot   = "no"
)

// FitVariant is a model in one quantisation.
type FitVariant struct {
	Name         string   `json:"name"` // its quantisation, or that of its file
	Quantization string   `json:"quantization"`
	Files        []string `json:"files"`
	SizeBytes    *uint64  `json:"size_bytes"` // of all files

	WeightsBytes *uint64 `json:"weights_bytes"` // in VRAM
	CacheBytes   *uint64 `json:"cache_bytes"`   // KV cache, and states of recurrent layers
	BuffersBytes *uint64 `json:"buffers_bytes"` // for computing
	DriverBytes  *uint64 `json:"driver_bytes"`
	NeedBytes    *uint64 `json:"vram_need_bytes"` // the sum, on one GPU
	Uncertain    string  `json:"uncertain"`       // why it may be far off

	Fits       string     `json:"fits"`       // now, later or no, on the best of Places; "" = unknown
	Places     []FitPlace `json:"places"`     // on each GPU alone, then split over all
	Layers     *int       `json:"gpu_layers"` // the most of AllLayers that fit, at this context
	AllLayers  *int       `json:"all_layers"` // the output counts as one
	CPUExperts *int       `json:"n_cpu_moe"`  // of the first so many layers the experts have to stay in the CPU's memory; null = it has none, or that is not enough
	// LargestContext is the largest context with which it fits, in tokens, up to the trained one; 0 =
	// none.
	LargestContext *int   `json:"largest_context"`
	Advice         string `json:"advice"`  // the flag of llama-server with which it fits; "" = it fits, or none does
	Problem        string `json:"problem"` // why nothing is known of it
}

// FitPlace is how a variant fits on one GPU, or split over several.
type FitPlace struct {
	GPUs           []int  `json:"gpus"`          // indexes
	NeedBytes      uint64 `json:"need_bytes"`    // on each of them
	Fits           string `json:"fits"`          // now, later or no
	MissingBytes   uint64 `json:"missing_bytes"` // on all of them, for later
	LargestContext int    `json:"largest_context"`
}
