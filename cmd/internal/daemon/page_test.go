package daemon

import "testing"

func TestReachable(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8000": "127.0.0.1:8000",
		"0.0.0.0:80":     "localhost:80",
		"[::]:8000":      "localhost:8000",
		"[::1]:8000":     "[::1]:8000",
		"192.0.2.1:8000": "192.0.2.1:8000",
		"gpu1:8000":      "gpu1:8000",
	} {
		if got := reachable(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
