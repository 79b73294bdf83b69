package output

import (
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// asError is a Format that logs each line as an error.
func asError(line string, _ bool) (text string, level zerolog.Level, ok bool) {
	return line, zerolog.ErrorLevel, true
}
