package llamacpp

import (
	"os"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/gguf"
	"github.com/llmsup/llmsup/models/vram"
	"github.com/llmsup/llmsup/supervisor"
)

// Describe implements supervisor.Engine. It reads the header of the model's file, and that of
// its projector.
func (Engine) Describe(spec supervisor.Spec) (models.Description, error) {
	h, err := gguf.Read(spec.Model)
	if err != nil {
		return models.Description{}, err
	}
	u := readUse(spec.Args)
	return models.Description{
		Abilities: abilities(h, u, u.readProjector()), Name: h.Name,
		CtxSize: vram.SlotContext(h, spec.CtxSize, spec.Args), TrainedContext: int(h.Context),
		Vocabulary: int(h.Vocabulary), Embedding: int(h.Embedding), Parameters: h.Parameters, Bytes: h.TensorBytes,
		CacheLimit: cacheLimit(h, u),
	}, nil
}

// use is what a server's arguments and environment say that it is used for.
type use struct {
	embeddings bool   // --embeddings: it computes embeddings or ranks
	pooling    string // --pooling, "rank" with --reranking; "" = as the model's file has it
	projector  string // --mmproj, a file; "" = none
	fullWindow bool   // --swa-full: the cache keeps what sliding windows no longer need
}

// readUse finds the settings of a server's use. Arguments overrule the environment, and the
// last of several applies.
func readUse(args []string) use {
	u := use{pooling: os.Getenv("LLAMA_ARG_POOLING"), projector: os.Getenv("LLAMA_ARG_MMPROJ")}
	u.embeddings = isOn(os.Getenv("LLAMA_ARG_EMBEDDINGS"))
	if isOn(os.Getenv("LLAMA_ARG_RERANKING")) {
		u.embeddings, u.pooling = true, rankPooling
	}
	for i, arg := range args {
		name, value := arg, ""
		if strings.HasPrefix(name, "--") { // llama-server accepts underscores
			name = strings.ReplaceAll(name, "_", "-")
		}
		if i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "--embedding", "--embeddings":
			u.embeddings = true
		case "--rerank", "--reranking":
			u.embeddings, u.pooling = true, rankPooling
		case "--pooling":
			u.pooling = value
		case "-mm", "--mmproj":
			u.projector = value
		case "--swa-full":
			u.fullWindow = true
		}
	}
	return u
}

const rankPooling = "rank" // of --pooling

// isOn reports whether an environment variable turns a flag on (is_truthy in common/arg.cpp).
func isOn(value string) bool {
	switch value {
	case "on", "enabled", "true", "1":
		return true
	}
	return false
}

// readProjector reads the header of the projector. Without one, or if it cannot be read, the
// model reads only text; llama-server will report the problem.
func (u use) readProjector() gguf.Projector {
	if u.projector == "" {
		return gguf.Projector{}
	}
	p, _ := gguf.ReadProjector(u.projector)
	return p
}

// abilities returns what a server with this model and use can do. Tried with build 11669.
func abilities(h *gguf.Header, u use, p gguf.Projector) []models.Ability {
	var list []models.Ability
	switch ranks := u.pooling == rankPooling; {
	case u.embeddings && ranks, encoder(h) && !u.embeddings && (ranks || u.pooling == "" && h.Pooling == gguf.PoolingRank):
		list = []models.Ability{models.Rerank}
	case u.embeddings, encoder(h):
		list = []models.Ability{models.Embedding}
	}
	if encoder(h) || u.embeddings && u.unpooled(h) {
		return list
	}
	list = append(list, models.Chat, models.Completion)
	for a, has := range map[models.Ability]bool{models.Tools: h.ToolTemplate, models.Vision: p.Vision, models.Audio: p.Audio} {
		list = changed(list, has, a)
	}
	return list
}

// cacheLimit returns why llama-server processes the whole prompt again although it has restored
// its cache: a saved slot lacks the checkpoints that such models need to go back in it.
func cacheLimit(h *gguf.Header, u use) string {
	switch m := h.Memory; {
	case m.StateKernel > 0 || m.DeltaHead > 0 || m.WKVHead > 0 || m.ShortKernel > 0:
		return "the model has recurrent layers"
	case m.Window > 0 && !u.fullWindow:
		return "the model's attention has a sliding window, and its args lack --swa-full"
	}
	return ""
}

// encoder reports whether a model only computes embeddings and ranks: each token attends to
// all others, or the architecture has no decoder. Older files of BERT's kind lack the
// entry about attention.
func encoder(h *gguf.Header) bool {
	return h.Bidirectional || strings.Contains(h.Architecture, "bert") || h.Architecture == "t5encoder"
}

// unpooled reports whether embeddings are those of single tokens. A decoder that computes
// such embeddings can generate nothing: asked for a completion, it ends with a
// segmentation fault.
func (u use) unpooled(h *gguf.Header) bool {
	switch u.pooling {
	case "":
		return h.Pooling == gguf.PoolingUnset || h.Pooling == gguf.PoolingNone
	case "none":
		return true
	}
	return false
}

// useArguments returns the flags without which llama-server would refuse each call of a model
// that can only compute embeddings or ranks, unless the user has set them.
func useArguments(spec supervisor.Spec, of models.Description, build features) []string {
	u := readUse(spec.Args)
	switch {
	case u.embeddings:
	case of.Can(models.Rerank) && build.reranking:
		return []string{"--reranking"}
	case of.Can(models.Embedding) && build.embeddings:
		return []string{"--embeddings"}
	}
	return nil
}
