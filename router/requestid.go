package router

import (
	"crypto/rand"
	"net/http"

	"github.com/llmsup/llmsup/router/wire"
)

// requestID keeps a client's own request id where it is a harmless one.
func requestID(r *http.Request) string {
	id := r.Header.Get(wire.HeaderRequestID)
	if id == "" || len(id) > 128 {
		return newRequestID()
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return newRequestID()
		}
	}
	return id
}

func newRequestID() string { return rand.Text() }
