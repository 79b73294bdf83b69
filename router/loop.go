package router

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/wire"
)

// checkLoop rejects a request that this router has sent itself. It is called before the
// key is checked, so that FindLoops need not send one.
func checkLoop(via string, w http.ResponseWriter, r *http.Request) wire.Error {
	if !slices.Contains(backend.ViaHops(r.Header), via) {
		return wire.Error{}
	}
	w.Header().Set("Via", via)
	return wire.Error{
		Status: http.StatusLoopDetected, Type: wire.TypeServer, Code: wire.CodeLoop,
		Message: "this call returned to the llmsup that sent it: the base_url of one of its upstreams leads here, directly or through another llmsup",
	}
}

// FindLoops checks for each upstream, without its key, whether its base URL leads back to
// this Router. If so, the upstream gets no calls until a later FindLoops finds that it no
// longer does. If an upstream cannot be reached, its previous result stays. FindLoops
// returns after 5 s at most, or when ctx ends.
func (rt *Router) FindLoops(ctx context.Context) {
	var checks sync.WaitGroup
	for _, b := range rt.routing.Load().Backends {
		if u, ok := b.(*backend.Upstream); ok {
			checks.Go(func() { u.FindLoop(ctx) })
		}
	}
	checks.Wait()
}

// IsLoop reports whether FindLoops has found that an upstream is this Router.
func (rt *Router) IsLoop(upstream string) bool {
	b, ok := rt.routing.Load().Backends[upstream].(*backend.Upstream)
	return ok && b.IsLoop()
}
