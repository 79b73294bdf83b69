// Package wire is the formats that clients and backends speak: JSON texts, as far as a
// proxy has to look into them; server-sent events; the API dialects (OpenAI's chat
// completions, completions and responses, Anthropic's messages, audio, and generic
// JSON); their errors and their usage.
//
// The router calls it for each body, answer and event. The package sends and receives
// nothing, and knows no backend and no route. Of prices it knows only the type of the
// token counts that they are multiplied by (price.Tokens).
package wire
