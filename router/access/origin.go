package access

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/router/wire"
)

// A web page can have a browser call whatever its user's machine can reach. Its
// Origin says so. A page that a hostile name server shows under llmsup's own
// address (DNS rebinding) may come without one, but with its own name as Host.

// VerifyOrigin rejects what a web page sends that is not allowed, and has
// browsers hand the answer to one that is, with the headers that are exposed.
func (p *Policy) VerifyOrigin(w http.ResponseWriter, r *http.Request, exposed string) wire.Error {
	h := w.Header()
	if len(p.Origins) > 0 {
		h.Add("Vary", "Origin")
	}
	origins := r.Header["Origin"]
	for _, origin := range origins {
		if !slices.Contains(p.Origins, "*") && !slices.Contains(p.Origins, origin) {
			return wire.Error{
				Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeOrigin,
				Message: fmt.Sprintf("web pages of %s may not call here; allowed_origins in llmsup.yaml lists those that may", wire.Quote(wire.Shorten(origin))),
			}
		}
	}
	if len(origins) > 0 {
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	return wire.Error{}
}

// IsPreflight says whether a browser asks what a page may do. Its Origin has
// been found good.
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// AnswerPreflight allows a page whatever headers it asks for: SDKs have a dozen
// of their own, and none of them matters to anybody but llmsup.
func AnswerPreflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	if wanted := r.Header.Get("Access-Control-Request-Headers"); wanted != "" {
		h.Set("Access-Control-Allow-Headers", wanted)
	}
	h.Set("Access-Control-Max-Age", "600") // seconds
	w.WriteHeader(http.StatusNoContent)
}

// VerifyHost rejects a request for a host that is not this one.
func (p *Policy) VerifyHost(r *http.Request) wire.Error {
	if !p.CheckHost || p.isOwnHost(hostName(r.Host)) {
		return wire.Error{}
	}
	return wire.Error{
		Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeHost,
		Message: fmt.Sprintf("%s is not a name of this endpoint; allowed_hosts in llmsup.yaml lists more", wire.Quote(wire.Shorten(r.Host))),
	}
}

// hostName is a Host without its port and brackets, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// ownNames are always this machine's. The last two are what a container calls
// its host; no name server on the Internet has names under "internal", so no
// page can come from there.
var ownNames = []string{"localhost", "host.docker.internal", "host.containers.internal"}

func (p *Policy) isOwnHost(name string) bool {
	if name == "" { // HTTP/1.0; browsers always name a host
		return true
	}
	if slices.Contains(ownNames, name) || slices.Contains(p.Hosts, name) {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && (p.AnyIP || ip.IsLoopback()) // an address can't be rebound
}
