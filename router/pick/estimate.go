package pick

import "time"

// AssumedService is how long a call holds its slots, if that is unknown.
const AssumedService = 5 * time.Second

const (
	// hop is the time that another box adds: the connections to it are open.
	hop = 2 * time.Millisecond
	// What is assumed of a box that has not announced it.
	assumedSlots      = 4
	assumedPromptRate = 1000 // tokens per second
)

// service returns how long a call holds its slots.
func (b *Box) service() time.Duration {
	if b.Service <= 0 {
		return AssumedService
	}
	return b.Service
}

// wait returns how long a call waits at the box until it has a slot.
func (b *Box) wait() time.Duration {
	slots := b.Slots
	if slots <= 0 {
		slots = assumedSlots
	}
	ahead := b.Busy + b.Queued - slots + 1 // calls that have to end first
	return b.Load + b.service()*time.Duration(max(ahead, 0))/time.Duration(slots)
}

// prefill returns how long the box takes to process tokens of a prompt.
func (b *Box) prefill(tokens int) time.Duration {
	rate := b.PromptRate
	if rate <= 0 {
		rate = assumedPromptRate
	}
	return time.Duration(float64(max(tokens, 0)) / rate * float64(time.Second))
}

// rest returns how long the box takes from the slot to the first token, and the way there.
func (b *Box) rest(c *Call, cached bool) time.Duration {
	tokens := c.PromptTokens
	if cached {
		tokens -= c.EarlierTokens
	}
	if b.Own {
		return b.prefill(tokens)
	}
	return b.prefill(tokens) + hop
}

// firstToken returns how long the box takes until its answer begins, if it has nothing cached.
func (b *Box) firstToken(c *Call) time.Duration { return b.wait() + b.rest(c, false) }
