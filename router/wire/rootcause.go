package wire

import (
	"errors"
	"strings"
)

// RootCause removes what net/http puts around an error: methods and URLs, which mean
// nothing to a client. What it quotes is left out as well, with the parenthesis around it: it
// may be anything that the peer sent, a key or a part of an answer.
func RootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			text, _, _ := strings.Cut(err.Error(), `"`)
			if open := strings.LastIndexByte(text, '('); open > strings.LastIndexByte(text, ')') {
				text = text[:open]
			}
			return strings.TrimRight(text, ": ")
		}
		err = inner
	}
}
