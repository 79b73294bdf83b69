package accounting

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLedgerName: a ledger keeps its name, and a new one in its place has another.
func TestLedgerName(t *testing.T) {
	name := func(dir string) string {
		t.Helper()
		n, err := ledgerName(dir)
		if err != nil || n == "" {
			t.Fatalf("%q, %v", n, err)
		}
		return n
	}
	dir := t.TempDir()
	first := name(dir)
	if again := name(dir); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if other := name(t.TempDir()); other == first {
		t.Error("two ledgers have one name")
	}
	if err := os.WriteFile(filepath.Join(dir, "ledger.db.corrupt-20261130T000000.000Z"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if renewed := name(dir); renewed == first {
		t.Error("a new database in place of a corrupt one has its name")
	}
	if _, err := ledgerName(filepath.Join(dir, "missing")); err == nil {
		t.Error("no error without a directory")
	}
}
