// Package request is the body of a client's call, as it came: which model it names
// and where, what else of it the router has to know (whether it asks for a stream,
// which other models it names, which fields only llama-server knows), and the memory
// that it lies in, which calls share. Forms (audio) are read as well as JSON.
//
// The router parses each body once, and sends it on with at most the name of its
// model changed. The package knows no route, key or backend, and sends nothing.
package request
