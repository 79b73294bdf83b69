package page

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func (d *fakeDaemon) ModelFiles(context.Context) (control.ModelFiles, error) {
	return control.ModelFiles{Folder: "/srv/models", Files: []control.ModelFile{{Name: "a", Path: "/srv/models/a.gguf"}}}, d.ask("files", "")
}

// TestModelFiles: only operators see what is on the disk.
func TestModelFiles(t *testing.T) {
	s := newSite(t, testKeys()...)
	get := func(headers ...string) answer { return s.request("GET", "/ui/api/files", "", headers...) }
	body, err := io.ReadAll(get("Cookie", s.signIn(operatorKey)).Body)
	if err != nil || !strings.Contains(string(body), `"path":"/srv/models/a.gguf"`) {
		t.Errorf("%s %v", body, err)
	}
	if status, c := code(t, get("Cookie", s.signIn(otherKey))); status != http.StatusForbidden || c != "operator_required" {
		t.Errorf("another key: %d %s", status, c)
	}
	if status, c := code(t, get()); status != http.StatusUnauthorized || c != "sign_in" {
		t.Errorf("no session: %d %s", status, c)
	}
	if len(s.daemon.commands) != 1 {
		t.Errorf("the files were read %d times", len(s.daemon.commands))
	}
	s.daemon.refusal = context.DeadlineExceeded
	if status, c := code(t, get("Cookie", s.signIn(operatorKey))); status != http.StatusServiceUnavailable || c != "files_unavailable" {
		t.Errorf("an error: %d %s", status, c)
	}
}
