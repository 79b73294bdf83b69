package promptcache

import (
	"cmp"
	"time"
)

// measurablePrompts is how many tokens of prompts a process must have processed for its speed
// to be known: a test call is far slower for each.
const measurablePrompts = 256

// held is what the caches of a process hold.
type held struct {
	tokens int     // in all slots
	speed  float64 // tokens of a prompt that it processes a second, or the last process did; 0 = unknown
}

// Observe takes how many tokens the caches of the present process hold, and how many tokens of
// prompts it has processed so far in how many seconds; 0 = unknown. Any goroutine may call
// it, one at a time.
func (s *Store) Observe(tokens int, processed, seconds float64) {
	next := held{tokens: tokens, speed: s.held.Load().speed}
	if processed >= measurablePrompts && seconds > 0 {
		next.speed = processed / seconds
	}
	s.held.Store(&next)
}

// Rebuild returns how long it would take after an unload to have the prompts again that the
// caches of the present process hold: to restore them if they are kept, and else to process
// them; 0 = they hold none, or its speed is not known yet.
func (s *Store) Rebuild() time.Duration {
	now := s.held.Load()
	if now.speed <= 0 {
		return 0
	}
	rebuild := seconds(float64(now.tokens) / now.speed)
	s.mu.Lock()
	v := s.verdict
	s.mu.Unlock()
	if v.Tried && v.Reason == "" && v.BytesPerToken > 0 {
		return min(rebuild, seconds(float64(now.tokens)*v.BytesPerToken/cmp.Or(v.Rate, assumedRate)))
	}
	return rebuild
}
