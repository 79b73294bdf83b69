package models

import (
	"os"
	"strings"
	"testing"
)

// Each reason is in the router's README: clients and operators see it.
func TestReasonsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile("../router/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range Reasons {
		if !strings.Contains(string(raw), "`"+string(reason)+"`") {
			t.Errorf("router/README.md does not document the reason %s", reason)
		}
	}
}
