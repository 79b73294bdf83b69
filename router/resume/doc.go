// Package resume continues an answer that broke off: another backend is asked for the
// rest, and the client receives one answer.
//
//	stream that broke off --> Transcript (text, tokens, header)
//	                              |
//	client's request ------> Dialect.ExtendRequest --> the other backend
//	                                                       |
//	client <-- Dialect.TextEvent <-- OverlapFilter <-- Dialect.Continuation
//	client <-- Dialect.FinishEvent, Dialect.End
//
// A Dialect is two halves: a reader of streams, the one that broke off and the one that
// continues it, and a writer of the request and of the events that follow. An example,
// in chat completions, with the events shortened:
//
//	the client sends       {"model":"local","max_tokens":100,"messages":[{"role":"user","content":"Count"}]}
//	and has received       data: {"id":"a1","choices":[{"index":0,"delta":{"content":"1 2"},...}]}
//	                       data: {"id":"a1","choices":[{"index":0,"delta":{"content":" 3"},...}]}
//	the next request is    {"model":"local","max_tokens":98,"messages":[{"role":"user","content":"Count"},
//	                        {"role":"assistant","content":"1 2 3"}]}
//	the backend answers    data: {"id":"z9","choices":[{"index":0,"delta":{"role":"assistant","content":" 4"}}]}
//	the client receives    data: {"id":"a1","choices":[{"index":0,"delta":{"content":" 4"},...}]}
//
// The router calls it when a stream breaks after its first content, and when a local
// server's answer, collected from a stream, breaks off (Dialect.Join). The package
// sends nothing, and knows no backend, route or budget: the router decides whether an
// answer may be continued, and by which backend.
package resume
