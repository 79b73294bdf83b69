package pick

import (
	"sync"
	"time"
)

// PromptRate measures how fast a server processes prompts, from the time to the first token.
// Long prompts count the most. It is safe for concurrent use.
type PromptRate struct {
	mu      sync.Mutex
	tokens  float64
	seconds float64 // in which they were processed
}

const (
	// minPrompt is the number of tokens from which the time to the first token says how fast
	// they were processed: that of shorter prompts is the time of one token, and of the way.
	minPrompt = 64
	// promptWindow is after how many tokens earlier ones count half.
	promptWindow = 50_000
)

// Observe takes over how long a server took until an answer began, whose prompt had so many tokens
// that its cache did not have.
func (r *PromptRate) Observe(tokens int64, took time.Duration) {
	if tokens < minPrompt || took <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tokens > promptWindow {
		r.tokens, r.seconds = r.tokens/2, r.seconds/2
	}
	r.tokens, r.seconds = r.tokens+float64(tokens), r.seconds+took.Seconds()
}

// PerSecond returns the tokens per second; 0 = unknown.
func (r *PromptRate) PerSecond() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seconds == 0 {
		return 0
	}
	return r.tokens / r.seconds
}
