package ledger

import (
	"database/sql"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The README has all columns of the table calls, and its queries work.
func TestReadme(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(raw)
	dir := t.TempDir()
	l, _ := open(t, dir, Options{})
	left := paid("EGL7UHTPQP2WQHVCA3KQKVOZHN", 5)
	left.LocalPrimary, left.Reason, left.Attempts = true, "timeout", []Attempt{{Backend: "qwen", Reason: "timeout"}, {Backend: "cloud"}}
	local := free("local")
	left.Time, local.Time = time.Now(), time.Now()
	l.Record(left)
	l.Record(local)
	synced(t, l)
	closeLedger(t, l)
	withDatabase(t, dir, func(db *sql.DB) error {
		var columns, documented []string
		rows, err := db.Query("SELECT name FROM pragma_table_xinfo('calls')")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			columns = append(columns, name)
		}
		for _, line := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(readme, -1) {
			documented = append(documented, strings.Split(strings.Trim(line[1], "`"), "` `")...)
		}
		if !slices.Equal(columns, documented) {
			t.Errorf("the columns are\n%q, README has\n%q", columns, documented)
		}
		queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(readme, -1)
		if len(queries) != 7 {
			t.Errorf("README has %d queries", len(queries))
		}
		for _, query := range queries {
			var n int
			if err := db.QueryRow("SELECT count(*) FROM (" + strings.Trim(query[1], "\n; ") + ")").Scan(&n); err != nil || n == 0 {
				t.Errorf("%d rows, %v, from\n%s", n, err, query[1])
			}
		}
		return rows.Err()
	})
}
