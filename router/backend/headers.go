package backend

import (
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/wire"
)

// isForwarded reports whether a request header is forwarded to the backend. It is an
// allow list: a company's own cookies, tokens and tracing secrets must not reach a cloud,
// and llama-server needs none of them. X-Conversation-Id in particular makes llama-server
// continue generating after the client has closed the connection.
func isForwarded(name string) bool {
	switch name {
	case "Accept", "Content-Type", "User-Agent",
		"Anthropic-Version", "Anthropic-Beta", "Openai-Beta",
		"Http-Referer", "X-Title", // OpenRouter's names for the application
		"Traceparent", "Tracestate":
		return true
	}
	return false
}

// Values of llmsup's own headers. They are read only.
var (
	ownAgent = []string{"llmsup"}
	identity = []string{"identity"} // of Accept-Encoding: without that header, any encoding would be allowed
)

// ForwardHeaders adds the headers of a request that are forwarded to a backend.
func ForwardHeaders(to, from http.Header) {
	oneConnection := perConnection(from)
	for name, values := range from {
		if isForwarded(name) && !oneConnection[name] {
			to[name] = values
		}
	}
	if _, ok := to["User-Agent"]; !ok {
		to["User-Agent"] = ownAgent
	}
	to["Accept-Encoding"] = identity
}

// setDefault sets a header that the client has not set.
func setDefault(h http.Header, name, value string) {
	if value != "" && h.Get(name) == "" {
		h.Set(name, value)
	}
}

// isHidden reports whether a header of an answer is not passed on to the client.
func isHidden(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true // about one connection (RFC 9110, 7.6.1)
	case "Content-Length":
		return true // net/http writes it itself
	case "Server", "Set-Cookie", "Strict-Transport-Security", "Alt-Svc":
		// About the host that sends them. Passed on, they would apply to llmsup's host:
		// set cookies for it, force it to TLS, name another program as the server.
		return true
	}
	return name == wire.HeaderRequestID || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "X-Llmsup-")
}

// CopyAnswerHeaders passes a backend's headers on, except those about its connection and
// its host, and those that only llmsup may set: llama-server allows every web page to
// read its answers.
func CopyAnswerHeaders(to, from http.Header) {
	oneConnection := perConnection(from)
	for name, values := range from {
		if isHidden(name) || oneConnection[name] {
			continue
		}
		if name == "Vary" { // CORS sets it as well
			values = append(to[name], values...)
		}
		to[name] = values
	}
}

// perConnection returns the headers that the Connection header of a message lists.
func perConnection(h http.Header) map[string]bool {
	var names map[string]bool
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if names == nil {
				names = map[string]bool{}
			}
			names[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}
