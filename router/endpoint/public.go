package endpoint

import (
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Public are the endpoints of the public APIs, by path: OpenAI's, Anthropic's,
// Mistral's fill in the middle, Cohere's rerank, and Jina's. A backend need not have them.
var Public = map[string]Endpoint{
	"/v1/chat/completions":       {Dialect: wire.Chat, DefaultModel: models.LocalName},
	"/v1/completions":            {Dialect: wire.Completions, DefaultModel: models.LocalName},
	"/v1/embeddings":             {Dialect: wire.Generic{}, DefaultModel: models.LocalName},
	"/v1/responses":              {Dialect: wire.Responses{}, DefaultModel: models.LocalName},
	"/v1/responses/input_tokens": {Dialect: wire.Generic{}, DefaultModel: models.LocalName},
	"/v1/messages":               {Dialect: wire.Messages{}, DefaultModel: models.LocalName},
	"/v1/messages/count_tokens":  {Dialect: genericAnthropic{}, DefaultModel: models.LocalName},
	"/v1/rerank":                 {Dialect: wire.Generic{}, DefaultModel: models.LocalName},
	"/v1/audio/transcriptions":   {Dialect: wire.Audio{}, DefaultModel: models.LocalName, Form: true},
	"/v1/audio/translations":     {Dialect: wire.Audio{}, DefaultModel: models.LocalName, Form: true},
	"/v1/audio/speech":           {Dialect: wire.Speech{}},
	"/v1/images/generations":     {Dialect: wire.Images{}},
	"/v1/images/edits":           {Dialect: wire.Images{}, Form: true},
	"/v1/moderations":            {Dialect: wire.Generic{}, DefaultModel: "omni-moderation-latest"}, // as at OpenAI
	"/v1/fim/completions":        {Dialect: wire.Chat},
	"/v2/rerank":                 {Dialect: wire.Generic{}},
}

// genericAnthropic is generic, with errors as Anthropic writes them.
type genericAnthropic struct{ wire.Generic }

func (genericAnthropic) ErrorBody(e wire.Error) []byte { return wire.Messages{}.ErrorBody(e) }
func (genericAnthropic) CompleteError(status int, body []byte) []byte {
	return wire.Messages{}.CompleteError(status, body)
}

func (genericAnthropic) ErrorEvent(e wire.Error) []byte { return wire.Messages{}.ErrorEvent(e) }
