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

// Key is an API key of a client. Only its hash is known here.
type Key struct {
	Name     string            // for the log
	SHA256   [sha256.Size]byte // of the key
	Routes   []string          // patterns of the models' names that it may use; nil = all
	FreeOnly bool              // nothing that costs money is done for it
	Operator bool              // it may read the figures of all keys
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

// KeyName returns the name of the key; "" where there is none.
func (k *Key) KeyName() string {
	if k == nil {
		return ""
	}
	return k.Name
}

// Allows returns whether the key may use a model. The patterns are those of
// routes.
func (k *Key) Allows(model string) bool {
	return k == nil || k.Routes == nil ||
		slices.ContainsFunc(k.Routes, func(pattern string) bool { return models.Match(pattern, model) })
}

// Authenticate finds the key that a request shows. It takes the same time
// whichever it is, and whether or not it is one.
func (p *Policy) Authenticate(r *http.Request) (*Key, wire.Error) {
	e := wire.Error{Status: http.StatusUnauthorized, Type: wire.TypeInvalid, Code: wire.CodeBadKey}
	shown := presentedKey(r.Header)
	if shown == "" {
		e.Message = "a call needs an API key here; send it as \"Authorization: Bearer KEY\" or as \"x-api-key: KEY\""
		return nil, e
	}
	hash := sha256.Sum256([]byte(shown))
	found := -1
	for i := range p.Keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], p.Keys[i].SHA256[:]), i, found)
	}
	if found < 0 {
		e.Message = "this API key is not known here; check it, or have a new one made with \"llmsup key new\""
		return nil, e
	}
	return &p.Keys[found], wire.Error{}
}

// presentedKey is the key that a request shows: as OpenAI's clients do, else as
// Anthropic's do.
func presentedKey(h http.Header) string {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	if key = strings.TrimSpace(key); key != "" && strings.EqualFold(scheme, "Bearer") {
		return key
	}
	return strings.TrimSpace(h.Get("X-Api-Key"))
}
