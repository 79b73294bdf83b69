package llamacpp

import "github.com/llmsup/llmsup/models"

// Capabilities implements supervisor.Engine.
func (Engine) Capabilities(args []string) models.Capabilities {
	return models.Capabilities{
		Program: "llama-server", CompleteStreams: completeStreams(args), PartialResponses: true, Fields: fields,
		Endpoints: endpoints, Aliases: aliases, Public: public, Rejections: rejections,
		// A model that only computes embeddings answers these with a 500, in some builds and with
		// some flags with a crash.
		Generating: []string{"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/infill", "/completion"},
		// llama-server makes a task of each choice, and starts none of them before it has a
		// slot for all; and one of each prompt. Seen with build 11669.
		Slots: models.SlotUse{
			None: []string{
				"/tokenize", "/detokenize", "/apply-template",
				"/v1/messages/count_tokens", "/v1/chat/completions/input_tokens", "/v1/responses/input_tokens",
			},
			PerItem: map[string]string{
				"/v1/completions": "prompt", "/completion": "prompt",
				"/v1/embeddings": "input", "/embedding": "input", "/v1/rerank": "documents",
			},
			OneChoice: []string{"/v1/messages", "/v1/embeddings", "/embedding", "/v1/rerank"},
		},
	}
}

// completeStreams reports whether a stream has all that a whole answer has. With
// these arguments llama-server puts other fields into the one than into the other.
func completeStreams(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--reasoning-format", "-r", "--reverse-prompt":
			return false
		}
	}
	return true
}
