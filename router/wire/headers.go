package wire

// The headers that llmsup adds to every answer.
const (
	HeaderRequestID = "X-Request-Id"
	HeaderBackend   = "X-Llmsup-Backend"
	HeaderReason    = "X-Llmsup-Reason"
)

// HeaderShouldRetry is on every error: "true" or "false".
const HeaderShouldRetry = "X-Should-Retry"
