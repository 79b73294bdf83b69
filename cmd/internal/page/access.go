package page

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

// verifySource rejects requests that a page of another origin made a browser send. The
// access policy's allowed_origins are for calls, and not for this page.
//   - A Host that is not llmsup's own is that of a page whose name was rebound to llmsup's
//     address (DNS rebinding).
//   - A request with an Origin other than llmsup's own is one of another page's scripts or
//     forms, and so is one that the browser itself marks as such. Links from elsewhere to
//     the page are fine: they read nothing.
//   - A change needs proof that it is from this page: browsers send it with every POST.
func verifySource(p *access.Policy, r *http.Request) wire.Error {
	own := *p
	own.CheckHost = p.CheckHost || len(p.Keys) == 0 // allowed_hosts: ["*"] is for calls: here are commands
	if e := own.VerifyHost(r); e.Status != 0 {
		return e
	}
	foreign := wire.Error{
		Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeOrigin,
		Message: "the page accepts only requests of its own scripts; open it at http(s)://" + wire.Shorten(r.Host) + Prefix,
	}
	origins := r.Header["Origin"]
	for _, origin := range origins {
		if !ownOrigin(r, origin) {
			return foreign
		}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	navigates := r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	if site != "" && site != "same-origin" && site != "none" && !navigates {
		return foreign
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !reads && len(origins) == 0 && site != "same-origin" {
		return foreign
	}
	return wire.Error{}
}

// ownOrigin reports whether an Origin is that of the request's own host. A proxy may have
// ended TLS, so that the page's scheme is https and the request's is not; the reverse is
// another page.
func ownOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host) {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && r.TLS == nil
}

// viewer is who has made a request, and what that client may do.
type viewer struct {
	feed.Viewer
	key      *access.Key // nil = no keys are configured
	commands bool        // it may give commands, and read logs
	why      string      // why it may not, in a sentence
}

// identify returns who has made a request. ok is false if it needs to sign in.
func (h *Handler) identify(r *http.Request) (v viewer, ok bool) {
	p := h.o.Router.Access()
	if len(p.Keys) == 0 {
		v := viewer{commands: isLocal(r)}
		if p.AwaitsKeys && !v.commands {
			return viewer{}, false
		}
		v.Operator = v.commands
		if !v.commands {
			v.why = "without client keys, only a browser on llmsup's own machine may give commands and read logs; " +
				"create an operator's key: llmsup key new NAME --operator --add"
		}
		return v, true
	}
	key := h.sessions.key(r, p)
	if key == nil {
		return viewer{}, false
	}
	v = viewer{Viewer: feed.Viewer{Key: key.Name, Operator: key.Operator}, key: key, commands: key.Operator}
	if v.Operator {
		v.Key = "" // all operators see the same
	} else {
		v.why = "the key " + key.Name + " is not an operator's; commands and logs need a key with operator: true in llmsup.yaml"
	}
	return v, true
}

// isLocal reports whether a request comes from this machine, and from no proxy on it, which
// may have any client.
func isLocal(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Unmap().IsLoopback() {
		return false
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	return true
}

// forViewers returns a handler for clients that are signed in, or need not be.
func (h *Handler) forViewers(serve func(http.ResponseWriter, *http.Request, viewer)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v, ok := h.identify(r); ok {
			serve(w, r, v)
			return
		}
		writeError(w, wire.Error{
			Status: http.StatusUnauthorized, Type: wire.TypeInvalid, Code: codeSignIn,
			Message: "sign in with a client key of this llmsup",
		})
	})
}

// codeSignIn is the code of the error without a valid session.
const codeSignIn = "sign_in"
