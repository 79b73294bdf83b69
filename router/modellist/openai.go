package modellist

import (
	"cmp"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/price"
	"github.com/llmsup/llmsup/router/wire"
)

// model is a model in OpenAI's format, with the fields that clients know from OpenRouter and
// from llama-server. A field whose value is unknown is absent.
type model struct {
	ID           string           `json:"id"`
	Object       string           `json:"object"`
	Created      int64            `json:"created"`  // Unix seconds
	OwnedBy      string           `json:"owned_by"` // the primary: a server or an upstream
	Name         string           `json:"name"`     // for people
	Status       string           `json:"status,omitempty"`
	Context      int              `json:"context_length,omitempty"`    // tokens of one call, prompt and answer together
	MaxOutput    int              `json:"max_output_tokens,omitempty"` // tokens of one answer
	Capabilities []models.Ability `json:"capabilities,omitempty"`
	Architecture architecture     `json:"architecture,omitzero"`
	Parameters   []string         `json:"supported_parameters,omitempty"`
	Pricing      *pricing         `json:"pricing,omitempty"`
	TopProvider  *topProvider     `json:"top_provider,omitempty"`
	Meta         meta             `json:"meta,omitzero"`
}

// architecture is OpenRouter's.
type architecture struct {
	Modality string   `json:"modality,omitempty"` // "text+image->text"
	Input    []string `json:"input_modalities,omitempty"`
	Output   []string `json:"output_modalities,omitempty"`
}

func (a architecture) IsZero() bool { return a.Input == nil && a.Output == nil }

func newArchitecture(input, output []string) architecture {
	a := architecture{Input: input, Output: output}
	if input != nil && output != nil {
		a.Modality = strings.Join(input, "+") + "->" + strings.Join(output, "+")
	}
	return a
}

// pricing is OpenRouter's: strings, in USD per token, or per call.
type pricing struct {
	Prompt     price.Price  `json:"prompt"`
	Completion price.Price  `json:"completion"`
	Cached     *price.Price `json:"input_cache_read,omitempty"`
	Request    price.Price  `json:"request,omitempty"`
}

// topProvider is OpenRouter's.
type topProvider struct {
	Context   int `json:"context_length,omitempty"`
	MaxOutput int `json:"max_completion_tokens"`
}

// meta is llama-server's.
type meta struct {
	Vocabulary     int    `json:"n_vocab,omitempty"`
	Context        int    `json:"n_ctx,omitempty"`
	TrainedContext int    `json:"n_ctx_train,omitempty"`
	Embedding      int    `json:"n_embd,omitempty"`
	Parameters     uint64 `json:"n_params,omitempty"`
	Bytes          uint64 `json:"size,omitempty"`
}

// encoded returns a model as JSON. What is said of an upstream's model does not change as
// long as its entry exists.
func (h *Handler) encoded(e *entry) []byte {
	if e.backend.Info().Local {
		return wire.MustJSON(h.model(e))
	}
	e.once.Do(func() { e.json = wire.MustJSON(h.model(e)) })
	return e.json
}

// model describes a model in OpenAI's format.
func (h *Handler) model(e *entry) model {
	m := model{ID: e.id, Object: "model", Created: h.Created, OwnedBy: e.backend.Info().Name, Name: e.id}
	if server, ok := e.backend.(server); ok {
		m.describeLocal(server)
		return m
	}
	m.Pricing = h.pricing(e)
	if e.listed != nil {
		m.describeListed(e.listed)
	}
	if e.pattern && e.listed.Name != "" {
		m.Name = e.listed.Name
	}
	return m
}

// server is a server, on this box or on another one.
type server interface {
	Describe() (status string, d *models.Description)
}

func (m *model) describeLocal(s server) {
	status, d := s.Describe()
	m.Status, m.Pricing = status, &pricing{}
	if d == nil {
		return
	}
	m.Context, m.Capabilities = d.CtxSize, d.Abilities
	m.Architecture = newArchitecture(d.InputModalities(), d.OutputModalities())
	m.Meta = meta{
		Vocabulary: d.Vocabulary, Context: d.CtxSize, TrainedContext: d.TrainedContext, Embedding: d.Embedding,
		Parameters: d.Parameters, Bytes: d.Bytes,
	}
}

func (m *model) describeListed(l *models.Listed) {
	m.Created = cmp.Or(l.Created, m.Created)
	m.Context, m.MaxOutput, m.Capabilities = l.Context, l.MaxOutput, l.Abilities
	m.Architecture = newArchitecture(l.Input, l.Output)
	m.Parameters, m.Meta.Context = l.Parameters, l.Context
	if l.MaxOutput > 0 {
		m.TopProvider = &topProvider{Context: l.Context, MaxOutput: l.MaxOutput}
	}
}

// pricing returns what an upstream's model costs; nil = unknown.
func (h *Handler) pricing(e *entry) *pricing {
	p, _, ok := h.Routing().Accounting.PriceList(e.backend.Info().Name).Lookup(e.there)
	if !ok {
		return nil
	}
	return &pricing{Prompt: p.Prompt, Completion: p.Completion, Cached: p.Cached, Request: p.Request}
}
