package access

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/router/wire"
)

// A web page can make a browser call any address that its user's machine reaches. The
// browser then sends the page's Origin. With DNS rebinding, a hostile name server gives
// the page's own name llmsup's address: such a request may have no Origin, but it has
// the page's name as its Host.

// VerifyOrigin rejects a request of a web page that is not allowed. For one that is, it
// sets the headers that let the page read the answer and its exposed headers.
func (p *Policy) VerifyOrigin(w http.ResponseWriter, r *http.Request, exposed string) wire.Error {
	h := w.Header()
	if len(p.Origins) > 0 {
		h.Add("Vary", "Origin")
	}
	origins := r.Header["Origin"]
	for _, origin := range origins {
		if !slices.ContainsFunc(p.Origins, func(entry string) bool { return matchOrigin(entry, origin) }) {
			return wire.Error{
				Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeOrigin,
				Message: fmt.Sprintf("origin %s is not allowed; add it to allowed_origins in llmsup.yaml", wire.Quote(wire.Shorten(origin))),
			}
		}
	}
	if len(origins) > 0 {
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	return wire.Error{}
}

// IsPreflight returns whether a browser asks what a page may send (CORS). The caller has
// verified the Origin.
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// AnswerPreflight allows all headers that a page asks for: SDKs add a dozen of their own,
// and none of them grants anything.
func AnswerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	if wanted := r.Header.Get("Access-Control-Request-Headers"); wanted != "" {
		h.Set("Access-Control-Allow-Headers", wanted)
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" { // Chrome asks, for a page of the Internet
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", "600") // seconds
	w.WriteHeader(http.StatusNoContent)
}

// VerifyHost rejects a request whose Host is not an own name, if CheckHost is set.
func (p *Policy) VerifyHost(r *http.Request) wire.Error {
	if !p.CheckHost || p.isOwnHost(hostName(r.Host)) {
		return wire.Error{}
	}
	return wire.Error{
		Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeHost,
		Message: fmt.Sprintf("host %s is not allowed; add it to allowed_hosts in llmsup.yaml", wire.Quote(wire.Shorten(r.Host))),
	}
}

// hostName returns a Host without port and brackets, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// ownNames always refer to this machine. The last two are a container's names for its
// host; the domain "internal" does not exist on the Internet, so no page can have it.
var ownNames = []string{"localhost", "host.docker.internal", "host.containers.internal"}

func (p *Policy) isOwnHost(name string) bool {
	if name == "" { // HTTP/1.0; browsers always send a Host
		return true
	}
	if slices.Contains(ownNames, name) || slices.Contains(p.Hosts, name) {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && (p.AnyIP || ip.IsLoopback()) // only names can be rebound
}
