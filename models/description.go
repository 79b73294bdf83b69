package models

import "slices"

// Ability is one kind of call that a model can answer, or one kind of input that it can read,
// as GET /v1/models names it.
type Ability string

// The abilities of a model.
const (
	Chat       Ability = "chat"
	Completion Ability = "completion"
	Embedding  Ability = "embedding"
	Rerank     Ability = "rerank"
	Vision     Ability = "vision" // it reads images
	Audio      Ability = "audio"  // it reads sound
	Tools      Ability = "tools"  // it calls tools
)

// Description is what is known of a local server's model: from the header of its file and the
// server's arguments, and once the model is loaded also from the server itself. The zero
// value of a field means unknown.
type Description struct {
	Abilities      []Ability // in the order of the constants above
	Name           string    // as its file gives it, for people: "Qwen2.5 14B Instruct"
	CtxSize        int       // tokens of one call, prompt and answer together
	TrainedContext int       // tokens of the context that it was trained with
	Vocabulary     int       // tokens
	Embedding      int       // numbers in one embedding
	Parameters     uint64
	Bytes          uint64 // of its weights
	CacheLimit     string // why a saved prompt cache of it is of no use to its server; "" = nothing is known against it
}

// CompareAbilities orders abilities as Description lists them. It is for slices.SortFunc.
func CompareAbilities(a, b Ability) int {
	order := []Ability{Chat, Completion, Embedding, Rerank, Vision, Audio, Tools}
	return slices.Index(order, a) - slices.Index(order, b)
}

// Can reports whether the model is known to have an ability.
func (d *Description) Can(a Ability) bool { return d != nil && slices.Contains(d.Abilities, a) }

// InputModalities returns what the model reads, in OpenRouter's terms; nil = unknown.
func (d *Description) InputModalities() []string {
	if d == nil || len(d.Abilities) == 0 {
		return nil
	}
	list := []string{"text"}
	if d.Can(Vision) {
		list = append(list, "image")
	}
	if d.Can(Audio) {
		list = append(list, "audio")
	}
	return list
}

// OutputModalities returns what the model answers with, in OpenRouter's terms; nil = unknown.
func (d *Description) OutputModalities() (list []string) {
	if d.Can(Chat) || d.Can(Completion) {
		list = append(list, "text")
	}
	if d.Can(Embedding) {
		list = append(list, "embeddings")
	}
	if d.Can(Rerank) {
		list = append(list, "rerank")
	}
	return list
}
