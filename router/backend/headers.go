package backend

import (
	"net/http"
	"strings"

	"github.com/llmsup/llmsup/router/wire"
)

// forwarded says which request headers a backend gets to see. It is a list
// of what is let through, not of what is held back: a company's own cookies,
// tokens and tracing secrets are none of a cloud's business, and llama-server
// needs none of them. X-Conversation-Id in particular makes llama-server go on
// generating for a client that has left.
func forwarded(name string) bool {
	switch name {
	case "Accept", "Content-Type", "User-Agent",
		"Anthropic-Version", "Anthropic-Beta", "Openai-Beta",
		"Http-Referer", "X-Title", // OpenRouter's names for the application
		"Traceparent", "Tracestate":
		return true
	}
	return false
}

// What is sent of llmsup's own. Nobody writes to them.
var (
	ownAgent = []string{"llmsup"}
	identity = []string{"identity"} // as Accept-Encoding: without it, any coding would be allowed
)

func forwardHeaders(to, from http.Header) {
	oneConnection := perConnection(from)
	for name, values := range from {
		if forwarded(name) && !oneConnection[name] {
			to[name] = values
		}
	}
	if _, ok := to["User-Agent"]; !ok {
		to["User-Agent"] = ownAgent
	}
	to["Accept-Encoding"] = identity
}

// setDefault sets a header that the client has not.
func setDefault(h http.Header, name, value string) {
	if value != "" && h.Get(name) == "" {
		h.Set(name, value)
	}
}

// hidden says which headers of an answer stay here.
func hidden(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true // they speak of one connection (RFC 9110, 7.6.1)
	case "Content-Length":
		return true // net/http writes it itself
	case "Server", "Set-Cookie", "Strict-Transport-Security", "Alt-Svc":
		// They speak of the host that sends them. Passed on, they would speak of
		// llmsup's: set its cookies, force it to TLS, name another program as the server.
		return true
	}
	return name == wire.HeaderRequestID || strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "X-Llmsup-")
}

// CopyAnswerHeaders passes a backend's headers on, but for those of its
// connection and its host, and for what only llmsup may say: llama-server
// allows every web page to read its answers.
func CopyAnswerHeaders(to, from http.Header) {
	oneConnection := perConnection(from)
	for name, values := range from {
		if hidden(name) || oneConnection[name] {
			continue
		}
		if name == "Vary" { // CORS sets it as well
			values = append(to[name], values...)
		}
		to[name] = values
	}
}

// perConnection are the headers that a message says are for its connection
// alone.
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
