package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/wire"
)

// Key is an API key of a client, by its hash.
type Key struct {
	Name     string            // for logs, metrics and the ledger
	SHA256   [sha256.Size]byte // of the key
	Routes   []string          // patterns of the model names that it may use; nil = all
	FreeOnly bool              // its calls never go to a paid upstream
	Operator bool              // it may read the figures of all keys, as in /metrics, and use what is about a whole server
}

type contextKey struct{}

// WithKey returns a context for a request that came with a key.
func WithKey(ctx context.Context, key *Key) context.Context {
	return context.WithValue(ctx, contextKey{}, key)
}

// CallerKey returns the key that a request came with: nil, which is allowed everything,
// where the router requires none.
func CallerKey(ctx context.Context) *Key {
	key, _ := ctx.Value(contextKey{}).(*Key)
	return key
}

// KeyName returns the key's name; "" without a key.
func (k *Key) KeyName() string {
	if k == nil {
		return ""
	}
	return k.Name
}

// Allows returns whether the key may use a model, by the same patterns as routes.
func (k *Key) Allows(model string) bool {
	return k == nil || k.Routes == nil ||
		slices.ContainsFunc(k.Routes, func(pattern string) bool { return models.Match(pattern, model) })
}

// retryAwaitsKeys is when a client should try again that finds no keys, in seconds.
const retryAwaitsKeys = 5

// NeedsKey reports whether requests are authenticated.
func (p *Policy) NeedsKey() bool { return len(p.Keys) > 0 || p.AwaitsKeys }

// Authenticate returns the key that a request presents. Its time does not depend on the
// key or on whether the key exists.
func (p *Policy) Authenticate(r *http.Request) (*Key, wire.Error) {
	if p.AwaitsKeys {
		return nil, wire.Error{
			Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: wire.CodeAwaitsKeys, RetryAfter: retryAwaitsKeys,
			Message: "llmsup has no keys yet, and takes no calls until it has those of its fleet; try again soon",
		}
	}
	e := wire.Error{Status: http.StatusUnauthorized, Type: wire.TypeInvalid, Code: wire.CodeBadKey}
	presented := presentedKey(r.Header)
	if presented == "" {
		e.Message = "missing API key; send it as \"Authorization: Bearer KEY\" or as \"x-api-key: KEY\""
		return nil, e
	}
	hash := sha256.Sum256([]byte(presented))
	found := -1
	for i := range p.Keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], p.Keys[i].SHA256[:]), i, found)
	}
	if found < 0 {
		e.Message = "unknown API key; check it, or ask the operator to create one with \"llmsup key new\""
		return nil, e
	}
	return &p.Keys[found], wire.Error{}
}

// presentedKey returns the key that a request presents, as OpenAI's clients send it or
// as Anthropic's do.
func presentedKey(h http.Header) string {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	if key = strings.TrimSpace(key); key != "" && strings.EqualFold(scheme, "Bearer") {
		return key
	}
	return strings.TrimSpace(h.Get("X-Api-Key"))
}
