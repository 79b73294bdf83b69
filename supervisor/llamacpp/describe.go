package llamacpp

import (
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
	d := models.Description{
		Abilities: abilities(h, u), Name: h.Name,
		CtxSize: vram.SlotContext(h, spec.CtxSize, spec.Args), TrainedContext: int(h.Context),
		Vocabulary: int(h.Vocabulary), Embedding: int(h.Embedding), Parameters: h.Parameters, Bytes: h.TensorBytes,
	}
	return d, nil
}

// use is what a server's arguments say that it is used for.
type use struct {
	embeddings bool   // --embeddings: it may serve nothing else
	rerank     bool   // --reranking
	pooling    string // --pooling; "" = as the model has it
}

// readUse finds the flags of a server's use. The last of several equal ones applies.
func readUse(args []string) use {
	var u use
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
			u.rerank = true
		case "--pooling":
			u.pooling = value
		}
	}
	return u
}

// abilities returns what a server with this model and use can do.
func abilities(h *gguf.Header, u use) []models.Ability {
	switch {
	case u.rerank, u.pooling == "rank", u.pooling == "" && encoder(h) && h.Pooling == gguf.PoolingRank:
		return []models.Ability{models.Rerank}
	case u.embeddings, encoder(h):
		return []models.Ability{models.Embedding}
	}
	list := []models.Ability{models.Chat, models.Completion}
	if h.ToolTemplate {
		list = append(list, models.Tools)
	}
	return list
}

// encoder reports whether a model only computes embeddings and ranks: each token attends to
// all others, or the architecture has no decoder. Older files of BERT's kind lack the
// entry about attention.
func encoder(h *gguf.Header) bool {
	return h.Bidirectional || strings.Contains(h.Architecture, "bert") || h.Architecture == "t5encoder"
}
