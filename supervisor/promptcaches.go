package supervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/llmsup/llmsup/supervisor/promptcache"
)

// CacheKeeper is a Probe of a program that can save the prompt caches of its slots, and
// restore them in another process.
type CacheKeeper interface {
	Probe
	promptcache.Process
}

// measurablePrompts is how many tokens of prompts a process must have processed for its
// speed to be known: a test call is far slower for each.
const measurablePrompts = 256

// promptCache is what is known of a process's prompt caches.
type promptCache struct {
	tokens int     // in all slots
	speed  float64 // tokens of a prompt that it processes a second, or the last process did; 0 = unknown
}

// observeCaches takes what a sample shows of the prompt caches.
func (s *Server) observeCaches(now Sample) {
	next := promptCache{tokens: now.CachedTokens, speed: s.cached.Load().speed}
	if now.PromptTokens >= measurablePrompts && now.PromptSeconds > 0 {
		next.speed = now.PromptTokens / now.PromptSeconds
	}
	s.cached.Store(&next)
}

// Rebuild returns how long it would take after an unload to have the prompts again that the
// caches of the present process hold: to restore them if they are kept, and else to process
// them; 0 = they hold none, or its speed is not known yet.
func (s *Server) Rebuild() time.Duration {
	now := s.cached.Load()
	if now.speed <= 0 {
		return 0
	}
	rebuild := time.Duration(float64(now.tokens) / now.speed * float64(time.Second))
	if restore, kept := s.caches.RestoreTime(now.tokens); kept {
		return min(rebuild, restore)
	}
	return rebuild
}

// PromptCaches returns whether the prompt caches survive an unload, as a text for people; "" =
// it is not known, or not wanted.
func (s *Server) PromptCaches() string { return s.caches.State() }

// prepareCaches lets the next process save its prompt caches, if that is wanted.
func (s *Server) prepareCaches() Spec {
	spec := s.spec
	if !spec.KeepCaches {
		s.caches.Remove()
		return spec
	}
	signature := spec.fileState() + fmt.Sprint(spec.Model, spec.Binary, spec.CtxSize, spec.NGPULayers, spec.Args)
	if err := s.caches.Prepare(signature); err != nil {
		s.log.Warn().Err(err).Msg("prompt caches are not kept while the model is unloaded")
		return spec
	}
	spec.CacheFolder = s.caches.Folder()
	return spec
}

// restoreCaches gives a process that has just been loaded the prompt caches of the last one.
func (s *Server) restoreCaches(ctx context.Context, p child, probe Probe) {
	tokens := 0
	if keeper, ok := probe.(CacheKeeper); ok && s.savesCaches {
		ctx, cancel := s.untilEnd(ctx, p)
		defer cancel()
		defer s.heartbeat.suspend()()
		tokens = s.caches.Restore(ctx, keeper)
	}
	s.cached.Store(&promptCache{tokens, s.cached.Load().speed})
}

// saveCaches saves the prompt caches of a process that is about to be stopped because its
// model is unloaded.
func (s *Server) saveCaches(ctx context.Context, p child, probe Probe) {
	if keeper, ok := probe.(CacheKeeper); ok && s.savesCaches && s.Snapshot().State == Unloading {
		ctx, cancel := s.untilEnd(ctx, p)
		defer cancel()
		s.observeCaches(probe.Sample(ctx)) // the last one may be older than its first long prompt
		s.caches.Save(ctx, keeper, s.cached.Load().speed)
	}
}

// untilEnd returns a context that also ends with the process, and when llmsup is stopped at
// once.
func (s *Server) untilEnd(ctx context.Context, p child) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-ctx.Done():
		case <-p.Done():
		case <-s.forceStop:
		}
		cancel()
	}()
	return ctx, cancel
}
