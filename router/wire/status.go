package wire

// IsErrorStatus reports whether a status is an error that may be passed on. Others, such
// as a redirect that would lead a client elsewhere with its key, may not.
func IsErrorStatus(status int) bool { return 400 <= status && status <= 599 }
