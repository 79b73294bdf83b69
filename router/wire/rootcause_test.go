package wire

import (
	"errors"
	"fmt"
	"net/url"
	"testing"
)

// TestRootCause: the error of a call is what happened, in whole words, without what it quotes.
func TestRootCause(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"of net/http":        {&url.Error{Op: "Post", URL: "http://h/?key=secret", Err: errors.New("connection refused")}, "connection refused"},
		"with a quotation":   {errors.New(`malformed HTTP response "secret"`), "malformed HTTP response"},
		"quoted in a clause": {errors.New(`unknown authority (possibly because of "a" while verifying "b")`), "unknown authority"},
		"after a clause":     {fmt.Errorf("read (of 3 bytes): %w", errors.New(`EOF (after 2) in "secret"`)), "EOF (after 2) in"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := RootCause(tc.err); got != tc.want {
				t.Errorf("%q; want %q", got, tc.want)
			}
		})
	}
}
