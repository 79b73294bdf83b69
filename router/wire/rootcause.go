package wire

import (
	"errors"
	"strings"
)

// RootCause removes what net/http puts around an error: methods and URLs, which mean
// nothing to a client. What it quotes is left out as well: it may be anything
// that the peer sent, a key or a part of an answer.
func RootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			words, _, _ := strings.Cut(err.Error(), `"`)
			return strings.TrimRight(words, ": ")
		}
		err = inner
	}
}
