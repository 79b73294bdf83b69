package request

import (
	"io"
	"net/http"
)

// Discard reads the body of a request that is refused, unless its sender waits until it is asked for
// it. Some proxies, such as Caddy, fail with a 502 if a body is not read to its end.
func Discard(r *http.Request) {
	if r.Header.Get("Expect") == "" {
		_, _ = io.Copy(io.Discard, r.Body) // the sender may have closed the connection
	}
}
