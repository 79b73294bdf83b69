package page

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/wire"
)

const (
	cookieName = "llmsup_session"

	sessionIdle = 12 * time.Hour
	sessionLife = 7 * 24 * time.Hour
	// maxSessions limits the memory of sessions; the one that was unused for longest ends.
	maxSessions = 1000
)

// sessions are the browsers that have signed in. They are in memory only: after a restart
// of llmsup, a browser signs in again.
type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]*session // by the hash of the cookie's value
}

// session is a browser that has signed in with a key. It has no copy of the key.
type session struct {
	key     [sha256.Size]byte // its hash: a reload that removes or replaces the key ends the session
	created time.Time
	used    time.Time
}

// begin opens a session for a key, and returns the cookie's value.
func (s *sessions) begin(key *access.Key, now time.Time) string {
	token := rand.Text() // 130 bits
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.open {
		if other.expired(now) {
			delete(s.open, id)
		}
	}
	for len(s.open) >= maxSessions {
		s.endOldest()
	}
	s.open[sha256.Sum256([]byte(token))] = &session{key.SHA256, now, now}
	return token
}

// endOldest ends the session that was unused for longest. The caller holds mu.
func (s *sessions) endOldest() {
	var oldest [sha256.Size]byte
	var used time.Time
	for id, o := range s.open {
		if used.IsZero() || o.used.Before(used) {
			oldest, used = id, o.used
		}
	}
	delete(s.open, oldest)
}

func (s *session) expired(now time.Time) bool {
	return now.Sub(s.used) > sessionIdle || now.Sub(s.created) > sessionLife
}

// key returns the key of a request's session; nil = it has none.
func (s *sessions) key(r *http.Request, p *access.Policy) *access.Key {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	id, now := sha256.Sum256([]byte(cookie.Value)), time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.open[id]
	if found == nil {
		return nil
	}
	i := slices.IndexFunc(p.Keys, func(k access.Key) bool { return k.SHA256 == found.key })
	if i < 0 || found.expired(now) {
		delete(s.open, id)
		return nil
	}
	found.used = now
	return &p.Keys[i]
}

// end ends the session of a request.
func (s *sessions) end(r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, sha256.Sum256([]byte(cookie.Value)))
	}
}

// sessionState is the answer of GET /ui/api/session. A browser reports an answer of 401 as an
// error of the page; the page asks this first.
type sessionState struct {
	SignedIn bool `json:"signed_in"` // or need not be
}

func (h *Handler) handleSessions() {
	h.paths.HandleFunc("GET /ui/api/session", func(w http.ResponseWriter, r *http.Request) {
		_, ok := h.identify(r)
		writeJSON(w, sessionState{SignedIn: ok})
	})
	h.paths.HandleFunc("POST /ui/api/session", h.signIn)
	h.paths.HandleFunc("DELETE /ui/api/session", func(w http.ResponseWriter, r *http.Request) {
		h.sessions.end(r)
		http.SetCookie(w, sessionCookie(r, "", -1))
		w.WriteHeader(http.StatusNoContent)
	})
}

// signIn opens a session for a client that knows a key.
func (h *Handler) signIn(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Key string `json:"key"`
	}
	if !readBody(w, r, &body, "key") {
		return
	}
	p := h.o.Router.Access()
	if p.AwaitsKeys {
		_, e := p.Authenticate(r)
		writeError(w, e)
		return
	}
	if len(p.Keys) == 0 {
		w.WriteHeader(http.StatusNoContent) // no key is needed
		return
	}
	now := time.Now()
	presented := http.Request{Header: http.Header{"X-Api-Key": {body.Key}}}
	key, e := p.Authenticate(&presented)
	if e.Status != 0 {
		writeError(w, h.refuseSignIn(r, e, now))
		return
	}
	h.o.Log.Info().Str("key", key.Name).Str("from", r.RemoteAddr).Msg("signed in to the page")
	http.SetCookie(w, sessionCookie(r, h.sessions.begin(key, now), int(sessionLife.Seconds())))
	w.WriteHeader(http.StatusNoContent)
}

// refuseSignIn returns the error for a wrong key. A right key is never refused, however many
// wrong ones came from its address, which may be that of a proxy for all.
func (h *Handler) refuseSignIn(r *http.Request, e wire.Error, now time.Time) wire.Error {
	from := clientOf(r)
	if wait := h.failures.wait(from, now); wait > 0 {
		return wire.Error{
			Status: http.StatusTooManyRequests, Type: wire.TypeRateLimit, Code: "too_many_attempts", RetryAfter: int(wait.Seconds()) + 1,
			Message: fmt.Sprintf("too many wrong keys from this address; try again in %d seconds", int(wait.Seconds())+1),
		}
	}
	h.failures.add(from, now)
	h.o.Log.Warn().Str("from", r.RemoteAddr).Msg("sign-in to the page failed: unknown key")
	e.Message = "unknown key; check it, or ask the operator to create one with \"llmsup key new\""
	return e
}

// sessionCookie returns the cookie, which scripts cannot read and other sites cannot have
// sent. maxAge is in seconds; -1 = the browser forgets it.
func sessionCookie(r *http.Request, value string, maxAge int) *http.Cookie {
	secure := r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https:") // behind a proxy that ends TLS

	//nolint:gosec // without TLS, a secure cookie would be lost
	return &http.Cookie{Name: cookieName, Value: value, Path: Prefix, MaxAge: maxAge, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode}
}

const (
	// maxFailures is after how many wrong keys of an address within failureWindow further ones
	// are refused with 429, and not logged.
	maxFailures   = 10
	failureWindow = time.Minute
	maxAddresses  = 10_000
)

// failures limits how many wrong keys of each address are logged. Keys have 130 random bits, so
// a limit need not protect them, and calls have none.
type failures struct {
	mu sync.Mutex
	of map[string]attempts // by address
}

// attempts are an address's failed ones since began.
type attempts struct {
	n     int
	began time.Time
}

// wait returns how long an address must wait; 0 = it need not.
func (f *failures) wait(from string, now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.of[from]
	if left := failureWindow - now.Sub(a.began); a.n >= maxFailures && left > 0 {
		return left
	}
	return 0
}

func (f *failures) add(from string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.of) >= maxAddresses {
		clear(f.of)
	}
	a := f.of[from]
	if now.Sub(a.began) > failureWindow {
		a = attempts{began: now}
	}
	a.n++
	f.of[from] = a
}

// clientOf returns the address of a client; of IPv6 its network, since a client has many
// addresses there.
func clientOf(r *http.Request) string {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := address.Addr().Unmap()
	if ip.Is6() {
		if network, err := ip.Prefix(64); err == nil {
			return network.String()
		}
	}
	return ip.String()
}

// maxBody limits a request's body, in bytes.
const maxBody = 64 << 10

// readBody decodes the JSON body of a change. If it is invalid, it answers the request and
// returns false. Only JSON is accepted: other sites can have a browser send forms and plain
// text without asking llmsup first.
func readBody(w http.ResponseWriter, r *http.Request, into any, fields string) bool {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, wire.Error{
			Status: http.StatusUnsupportedMediaType, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody,
			Message: "the body has to be JSON, with Content-Type: application/json",
		})
		return false
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // only writers of tests have no deadlines
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	body.DisallowUnknownFields()
	err := body.Decode(into)
	if err == nil {
		if _, more := body.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more than one value")
		}
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	if err != nil && !errors.Is(err, io.EOF) {
		writeError(w, wire.Error{
			Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: wire.CodeInvalidBody,
			Message: "the body has to be JSON with " + fields,
		})
		return false
	}
	return true
}
