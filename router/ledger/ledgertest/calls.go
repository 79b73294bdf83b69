// Package ledgertest reads the database of a ledger. Tests of the whole daemon,
// in cmd/llmsup, call it to compare the rows with what clients and upstreams saw.
package ledgertest

import (
	"database/sql"
	"math"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/llmsup/llmsup/router/usd"
)

// Call is a row of calls.
type Call struct {
	Time    time.Time // when the call came
	Request string    // X-Request-Id
	Key     string    // the name of the client's key
	Status  int
	Paid    bool
	Partial bool
	Cost    *usd.Amount   // nil = unknown
	Charged usd.Amount    // what budgets count
	Wait    time.Duration // for a slot or a model; 0 = it did not wait
}

// Calls returns the rows of the ledger in a state directory. Another process may
// have the database open.
func Calls(t testing.TB, state string) []Call {
	t.Helper()
	query := url.Values{"_pragma": {"busy_timeout(5000)", "query_only(1)"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.Join(state, "ledger", "ledger.db")}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT time, request, "key", status, paid, partial, cost_usd, coalesce(charged_usd, 0), coalesce(wait_ms, 0) FROM calls`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var calls []Call
	for rows.Next() {
		var c Call
		var came string
		var cost sql.NullFloat64
		var charged float64
		var waitMS int64
		if err := rows.Scan(&came, &c.Request, &c.Key, &c.Status, &c.Paid, &c.Partial, &cost, &charged, &waitMS); err != nil {
			t.Fatal(err)
		}
		if c.Time, err = time.Parse(time.RFC3339, came); err != nil {
			t.Fatal(err)
		}
		if cost.Valid {
			c.Cost = new(picodollars(cost.Float64))
		}
		c.Charged, c.Wait = picodollars(charged), time.Duration(waitMS)*time.Millisecond
		calls = append(calls, c)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return calls
}

// picodollars is exact for what a call costs: the columns in USD are whole
// picodollars divided by 1e12, and a float64 has 53 bits.
func picodollars(dollars float64) usd.Amount {
	return usd.Amount(math.Round(dollars * float64(usd.Dollar)))
}
