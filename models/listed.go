package models

// Listed is an entry of an upstream's own list of models. The zero value of a field means
// unknown.
type Listed struct {
	ID         string    `json:"id"`
	Name       string    `json:"name,omitempty"`           // for people: "OpenAI: GPT-4o"
	Created    int64     `json:"created,omitempty"`        // Unix seconds
	Context    int       `json:"context_length,omitempty"` // tokens of one call, prompt and answer together
	MaxOutput  int       `json:"max_output,omitempty"`     // tokens of one answer
	Input      []string  `json:"input,omitempty"`          // modalities, in OpenRouter's terms: text, image, file, audio, video
	Output     []string  `json:"output,omitempty"`         // as Input
	Parameters []string  `json:"parameters,omitempty"`     // the fields of a call that it supports
	Abilities  []Ability `json:"abilities,omitempty"`      // in the order of the constants
}

// Lists are the upstreams' own lists of models, each in the upstream's order. They are
// immutable: a new list makes new Lists.
type Lists struct {
	ByUpstream map[string][]Listed
}

// Find returns a model of an upstream's list; nil = it is not in the list, or there is none.
func (l *Lists) Find(upstream, id string) *Listed {
	if l == nil {
		return nil
	}
	list := l.ByUpstream[upstream]
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	return nil
}
