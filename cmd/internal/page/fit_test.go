package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

func (d *fakeDaemon) Fit(_ context.Context, ref string, ctxSize int) (control.Fit, error) {
	return control.Fit{Model: ref, CtxSize: ctxSize}, d.ask("fit", fmt.Sprint(ref, " ", ctxSize))
}

// TestFit: only operators may have llmsup read from a hub.
func TestFit(t *testing.T) {
	s := newSite(t, testKeys()...)
	fit := func(body string, headers ...string) answer {
		return s.request("POST", "/ui/api/fit", body, append(headers, "Content-Type", "application/json", "Sec-Fetch-Site", "same-origin")...)
	}
	operator := s.signIn(operatorKey)
	body, err := io.ReadAll(fit(`{"ref":"hf:a/b","ctx_size":4096}`, "Cookie", operator).Body)
	if err != nil || !strings.Contains(string(body), `"model":"hf:a/b"`) || !strings.Contains(string(body), `"ctx_size":4096`) {
		t.Errorf("%s %v", body, err)
	}
	if status, c := code(t, fit(`{"ref":"hf:a/b"}`, "Cookie", s.signIn(otherKey))); status != http.StatusForbidden || c != "operator_required" {
		t.Errorf("another key: %d %s", status, c)
	}
	if status, c := code(t, fit(`{"ref":"hf:a/b"}`)); status != http.StatusUnauthorized || c != "sign_in" {
		t.Errorf("no session: %d %s", status, c)
	}
	if status, _ := code(t, fit(`{"ref":"hf:a/b","ctx_size":-1}`, "Cookie", operator)); status != http.StatusBadRequest {
		t.Errorf("a negative context: %d", status)
	}
	if len(s.daemon.commands) != 1 {
		t.Errorf("the hub was read %d times", len(s.daemon.commands))
	}
	s.daemon.refusal = errors.New("a/b does not exist")
	if status, c := code(t, fit(`{"ref":"hf:a/b"}`, "Cookie", operator)); status != http.StatusConflict || c != "refused" {
		t.Errorf("an error: %d %s", status, c)
	}
}
