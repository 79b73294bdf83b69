package wire

// The headers that llmsup adds to every answer.
const (
	HeaderRequestID = "X-Request-Id"
	HeaderBackend   = "X-Llmsup-Backend"
	HeaderReason    = "X-Llmsup-Reason"
	HeaderQueue     = "X-Llmsup-Queue" // only of calls that had a place in a queue
)

// HeaderWait is on the answer of a box that did not let a call of another box wait, although its
// queue has room: for how many milliseconds the call would wait for a slot.
const HeaderWait = "X-Llmsup-Wait"

// HeaderHop is on the calls that one box of a fleet sends to another.
const HeaderHop = "X-Llmsup-Hop"

// HeaderShouldRetry is on every error: "true" or "false".
const HeaderShouldRetry = "X-Should-Retry"
