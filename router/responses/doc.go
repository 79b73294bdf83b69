// Package responses adds to a local server's answers at /v1/responses what OpenAI's schema
// requires and the server omits: fields, and a few events. Strict clients, such as
// openai-node's responses.stream() and the AI SDK, reject an answer without them. A field
// that is present keeps its bytes and its place; what is missing comes after it.
//
// llama-server (build 11669) sends
//
//	event: response.output_text.delta
//	data: {"type":"response.output_text.delta","item_id":"msg_1","delta":" 2"}
//
// and the client receives
//
//	event: response.output_text.delta
//	data: {"type":"response.output_text.delta","item_id":"msg_1","delta":" 2","output_index":0,"content_index":0,"logprobs":[],"sequence_number":5}
//
// Three things are not fields:
//
//   - Events that llama-server does not send are inserted: response.content_part.added,
//     response.reasoning_text.done and response.content_part.done of a reasoning item,
//     response.function_call_arguments.done, and response.created and response.in_progress
//     before the only event of an answer without text.
//   - response.created and response.in_progress are removed once an output item has begun.
//     llama-server repeats both before each event if an answer begins with a part of a
//     character, such as an emoji, and clients discard what they have at each.
//   - Before an error that has no event name comes the line "event: error".
//
// A server that numbers its events itself is taken to send all of them: nothing is
// inserted. What llama-server does not know gets the schema's neutral value: null, 0 or an
// empty list. It reports an answer that max_output_tokens ended as completed, and that is
// not changed.
//
// CompleteInput is the same for requests: it adds what llama-server requires and OpenAI's
// schema does not.
//
// Source: OpenAI's API reference, "Responses" and "Streaming events"; the fields marked as
// required in openai-go's package responses.
//
// Package attempt calls it for each event and each whole answer. The package sends nothing,
// and knows no backend.
package responses
