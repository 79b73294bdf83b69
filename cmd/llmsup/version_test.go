package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnotherVersion: commands print one warning about a daemon of another version, and
// work.
func TestAnotherVersion(t *testing.T) {
	path := filepath.Join(shortDir(t), "c.sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	daemon := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Llmsup-Version", "v9.9")
		_, _ = io.WriteString(w, `{"version":"v9.9","listen":"127.0.0.1:8000","model":"local"}`) // the client may have left
	}))
	_ = daemon.Listener.Close() // not needed
	daemon.Listener = socket
	daemon.Start()
	defer daemon.Close()
	for name, want := range map[string]string{
		"status": "listens on http://127.0.0.1:8000/v1", "route local": "local: ", "reload": "nothing has changed\n",
	} {
		command, model, _ := strings.Cut(name, " ")
		_, out := runCommand(t, strings.Fields(command+" --control-socket "+path+" "+model)...)
		if strings.Count(out, "llmsup: this is llmsup dev, and the daemon is v9.9; if something does not work, restart the daemon\n") != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: %s", name, out)
		}
	}
}
