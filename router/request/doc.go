// Package request is the body of a client's request: the model that it names and where,
// what else the router reads of it (whether it asks for a stream, which other models it
// names, which fields only llama-server knows), and its memory, which later requests
// reuse. It reads JSON and forms (audio).
//
// The router parses each body once, and sends it on with at most the name of the model
// changed. Only a body with parameters that its route edits (Edit) is copied and parsed again.
// The package knows no route, key or backend, and sends nothing.
package request
