package wire

// Endpoints are the paths at which calls are taken, and their dialects.
var Endpoints = map[string]Dialect{
	"/v1/chat/completions":      Chat,
	"/v1/completions":           Completions,
	"/v1/embeddings":            Generic{},
	"/v1/responses":             Responses{},
	"/v1/messages":              Messages{},
	"/v1/messages/count_tokens": genericAnthropic{},
	"/v1/rerank":                Generic{},
	"/v1/audio/transcriptions":  Audio{},
	"/v1/audio/translations":    Audio{},
}

// genericAnthropic is generic, with errors as Anthropic writes them.
type genericAnthropic struct{ Generic }

func (genericAnthropic) ErrorBody(e Error) []byte  { return Messages{}.ErrorBody(e) }
func (genericAnthropic) ErrorEvent(e Error) []byte { return Messages{}.ErrorEvent(e) }
