package process

import (
	"slices"
	"testing"
)

func TestEnvironHidesSecrets(t *testing.T) {
	for _, name := range []string{"OPENROUTER_API_KEY", "LLMSUP_LISTEN", "NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "CREDENTIALS_DIRECTORY", "ENGINE_KEY", "ENGINE_THREADS"} {
		t.Setenv(name, "x")
	}
	got := Environ([]string{"OPENROUTER_API_KEY"}, []string{"ENGINE_KEY"})
	for _, hidden := range []string{"OPENROUTER_API_KEY=x", "LLMSUP_LISTEN=x", "NOTIFY_SOCKET=x", "WATCHDOG_USEC=x", "LISTEN_FDS=x", "CREDENTIALS_DIRECTORY=x", "ENGINE_KEY=x"} {
		if slices.Contains(got, hidden) {
			t.Errorf("the process sees %s", hidden)
		}
	}
	if !slices.Contains(got, "ENGINE_THREADS=x") {
		t.Error("the process does not see a variable that is not hidden")
	}
}
