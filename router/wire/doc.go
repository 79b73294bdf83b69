// Package wire is the formats that clients and backends speak: JSON texts, as far as a
// proxy has to look into them; server-sent events; the API dialects (OpenAI's chat
// completions, completions and responses, Anthropic's messages, audio, and generic
// JSON); their errors and their usage.
//
// The router calls it for each body, answer and event. The package sends and receives
// nothing, and knows no backend, route or price.
package wire
