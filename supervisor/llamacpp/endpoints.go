package llamacpp

import "github.com/llmsup/llmsup/models"

// endpoints are the paths of llama-server's own API, as of build 11669. Not among them are
// its web page, its router's (/models/load), and those that only its web page uses.
var endpoints = []models.Endpoint{
	{Path: "/completion", Post: true, Public: "/v1/completions"},
	{Path: "/embedding", Post: true, Public: "/v1/embeddings"},
	{Path: "/infill", Post: true},
	{Path: "/tokenize", Post: true},
	{Path: "/detokenize", Post: true},
	{Path: "/apply-template", Post: true},
	{Path: "/v1/chat/completions/input_tokens", Post: true},
	{Path: "/props", Get: true, Post: true, Server: true},
	{Path: "/slots", Get: true, Query: []string{"fail_on_no_slot"}, Server: true},
	{Path: "/slots/{}", Post: true, Query: []string{"action"}, Server: true},
	{Path: "/lora-adapters", Get: true, Post: true, Server: true},
}

// aliases are llama-server's further paths. /completions and /embeddings are not those of
// OpenAI: llama-server answers there in its own form.
var aliases = map[string]string{ //nolint:gosec // "input_tokens" is no credential
	"/chat/completions":              "/v1/chat/completions",
	"/chat/completions/input_tokens": "/v1/chat/completions/input_tokens",
	"/responses":                     "/v1/responses",
	"/responses/input_tokens":        "/v1/responses/input_tokens",
	"/completions":                   "/completion",
	"/embeddings":                    "/embedding",
	"/rerank":                        "/v1/rerank",
	"/reranking":                     "/v1/rerank",
	"/v1/reranking":                  "/v1/rerank",
	"/audio/transcriptions":          "/v1/audio/transcriptions",
	"/models":                        "/v1/models",
	"/v1/health":                     "/health",
}

// public are the paths of public APIs that llama-server has.
var public = []string{
	"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/responses/input_tokens",
	"/v1/embeddings", "/v1/rerank", "/v1/messages", "/v1/messages/count_tokens", "/v1/audio/transcriptions",
}
