package router

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Key is what a caller shows. Only its hash is known here.
type Key struct {
	Name     string            // for the log
	SHA256   [sha256.Size]byte // of the key
	Routes   []string          // patterns of the models' names that it may use; nil = all
	FreeOnly bool              // nothing that costs money is done for it
	Operator bool              // it may read the figures of all keys
}

// keyOfCall is where a request's context has its *Key. There is none where no
// key is asked for; a nil *Key may do everything.
type keyOfCall struct{}

func keyOf(ctx context.Context) *Key {
	key, _ := ctx.Value(keyOfCall{}).(*Key)
	return key
}

func (k *Key) name() string {
	if k == nil {
		return ""
	}
	return k.Name
}

// mayUse says whether a key is good for a model. The patterns are those of
// routes.
func (k *Key) mayUse(model string) bool {
	return k == nil || k.Routes == nil ||
		slices.ContainsFunc(k.Routes, func(pattern string) bool { return models.Match(pattern, model) })
}

// isFor says whether a key is good for a route.
func (s *routing) isFor(k *Key, route models.Route) bool {
	return k.mayUse(route.Name) && (k == nil || !k.FreeOnly || !s.backends[route.Primary].paid())
}

// forOperators rejects requests whose key is not an operator's: what is inside shows
// the spending of all keys.
func (rt *Router) forOperators(inside http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if key := keyOf(r.Context()); key != nil && !key.Operator {
			rt.turnAway(w, r, wire.Error{
				Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator,
				Message: fmt.Sprintf("%s is for operators; the key %s needs operator: true in llmsup.yaml", r.URL.Path, key.Name),
			})
			return
		}
		inside.ServeHTTP(w, r)
	}
}

// authenticate finds the key that a request shows. It takes the same time
// whichever it is, and whether or not it is one.
func (d *Door) authenticate(r *http.Request) (*Key, wire.Error) {
	e := wire.Error{Status: http.StatusUnauthorized, Type: wire.TypeInvalid, Code: wire.CodeBadKey}
	shown := shownKey(r.Header)
	if shown == "" {
		e.Message = "a call needs an API key here; send it as \"Authorization: Bearer KEY\" or as \"x-api-key: KEY\""
		return nil, e
	}
	hash := sha256.Sum256([]byte(shown))
	found := -1
	for i := range d.Keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], d.Keys[i].SHA256[:]), i, found)
	}
	if found < 0 {
		e.Message = "this API key is not known here; check it, or have a new one made with \"llmsup key new\""
		return nil, e
	}
	return &d.Keys[found], wire.Error{}
}

// shownKey is the key that a request shows: as OpenAI's clients do, else as
// Anthropic's do.
func shownKey(h http.Header) string {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	if key = strings.TrimSpace(key); key != "" && strings.EqualFold(scheme, "Bearer") {
		return key
	}
	return strings.TrimSpace(h.Get("X-Api-Key"))
}

// planFor is the plan of a call that came with a key.
func (s *routing) planFor(k *Key, model string) plan {
	called := model
	route, model, ok := s.lookup(called)
	if !ok {
		return plan{refuse: s.unknownModel(k, called)}
	}
	if !k.mayUse(called) && !k.mayUse(model) {
		return plan{route: route, refuse: notAllowed(
			"the key %s may not use the model %s; it may use %s", k.Name, wire.Quote(wire.Shorten(called)), wire.OrElse(strings.Join(k.Routes, ", "), "no model"))}
	}
	if k == nil || !k.FreeOnly {
		return s.planRoute(route, model)
	}
	if s.backends[route.Primary].paid() {
		return plan{route: route, refuse: notAllowed(
			"the key %s may not spend money, and %s goes to %s", k.Name, wire.Quote(wire.Shorten(model)), s.backends[route.Primary].name())}
	}
	spare := s.backends[route.Fallback]
	if spare == nil || !spare.paid() {
		return s.planRoute(route, model)
	}
	would := s.sparedBy(route, model)
	route.Fallback, route.FallbackModel = "", ""
	p := s.planRoute(route, model)
	p.spared = would
	p.noSpare = fmt.Sprintf("the key %s may not spend money, so %s is not asked", k.Name, spare.name())
	if p.refuse.Status != 0 {
		p.refuse = s.unavailable(p)
	}
	return p
}

func notAllowed(format string, args ...any) wire.Error {
	return wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotAllowed, Message: fmt.Sprintf(format, args...)}
}
