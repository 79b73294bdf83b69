package vram

// windows describes which layers of an architecture attend to a window of tokens only.
type windows struct {
	period uint32 // one layer of so many has no window; 0 = the file lists them
	first  bool   // that layer is the first of the period, and not the last
	tokens uint32 // the window if the file has none; 0 = no window then
	fixed  bool   // the file's window is ignored
	layers uint32 // only a model of so many layers has windows; 0 = any
}

// windowed are the architectures whose windows llama.cpp uses, with the defaults of its
// loader (load_arch_hparams in src/models/*.cpp). Others may have the entry too (Mistral
// 7B, Phi 3) and are cached in full.
var windowed = map[string]windows{
	"afmoe":        {period: 4},
	"cohere2":      {period: 4},
	"cohere2moe":   {period: 4, first: true},
	"exaone-moe":   {period: 4},
	"exaone4":      {period: 4, tokens: 4096, layers: 64},
	"gemma2":       {period: 2, tokens: 4096},
	"gemma3":       {period: 6},
	"gemma3n":      {period: 5},
	"gemma4":       {},
	"gpt-oss":      {period: 2},
	"laguna":       {period: 4, first: true},
	"llama4":       {period: 4, tokens: 8192, fixed: true},
	"mellum":       {period: 4},
	"mimo2":        {},
	"muse-glimmer": {period: 4},
	"olmo2":        {period: 4},
	"plamo3":       {period: 8},
	"smallthinker": {period: 4, first: true},
	"step35":       {},
}

// window returns the size of the windows in tokens, 0 if no layer has one.
func (m *model) window() uint64 {
	w := windowed[m.Architecture]
	if w.layers > 0 && w.layers != m.Layers {
		return 0
	}
	if w.tokens > 0 && (w.fixed || m.Memory.Window == 0) {
		return uint64(w.tokens)
	}
	return uint64(m.Memory.Window)
}

// windowed reports whether a layer has a window. If the metadata does not show it, the
// layer has none, which needs the larger cache.
func (m *model) windowed(layer uint32) bool {
	w, known := windowed[m.Architecture]
	listed := m.Memory.WindowLayers
	if m.window() == 0 || !known && listed == nil {
		return false
	}
	if listed != nil { // only files whose loader uses a list have one
		return int(layer) < len(listed) && listed[layer]
	}
	period := w.period
	if m.Memory.WindowPeriod > 0 && period > 0 {
		period = m.Memory.WindowPeriod
	}
	switch {
	case period == 0:
		return false
	case w.first:
		return layer%period != 0
	default:
		return layer%period < period-1
	}
}
