package request

import (
	"crypto/rand"
	"net/http"

	"github.com/llmsup/llmsup/router/wire"
)

// IDOf returns the client's own request id if it is valid, else a new one.
func IDOf(r *http.Request) string {
	id := r.Header.Get(wire.HeaderRequestID)
	if id == "" || len(id) > 128 {
		return rand.Text()
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return rand.Text()
		}
	}
	return id
}
