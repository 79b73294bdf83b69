package page

import (
	"encoding/csv"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/usd"
	"github.com/llmsup/llmsup/router/wire"
)

// handleCalls serves the calls of the ledger, and their sums. A viewer who is no operator
// gets those of the own key, whatever the query says.
func (h *Handler) handleCalls() {
	d := h.o.Daemon
	h.paths.Handle("GET /ui/api/calls", h.forViewers(func(w http.ResponseWriter, r *http.Request, v viewer) {
		q, ok := callsQuery(w, r, v)
		if !ok {
			return
		}
		page, err := d.Calls(r.Context(), q)
		if err != nil {
			writeError(w, unreadable(err))
			return
		}
		page.InFlight = nil // the event stream has them
		writeJSON(w, page)
	}))
	h.paths.Handle("GET /ui/api/calls/{id}", h.forViewers(func(w http.ResponseWriter, r *http.Request, v viewer) {
		call, err := d.Call(r.Context(), r.PathValue("id"))
		if err == nil && !v.Operator && (v.key == nil || call.Key != v.Key) {
			err = control.ErrNoCall // not even that there is one
		}
		if err != nil {
			writeError(w, unreadable(err))
			return
		}
		writeJSON(w, call)
	}))
	h.paths.Handle("GET /ui/api/calls.csv", h.forViewers(h.exportCalls))
	h.paths.Handle("GET /ui/api/usage", h.forViewers(h.usage))
}

// mayReadCalls answers a viewer who has no calls of the own: one without a key, from another
// machine.
func mayReadCalls(w http.ResponseWriter, v viewer) bool {
	if !v.Operator && v.key == nil {
		writeError(w, wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator, Message: v.why})
		return false
	}
	return true
}

// callsQuery reads the query of a viewer. If it returns false, it has answered the request.
func callsQuery(w http.ResponseWriter, r *http.Request, v viewer) (q control.CallsQuery, ok bool) {
	if !mayReadCalls(w, v) {
		return q, false
	}
	q, err := control.ParseCallsQuery(r.URL.Query())
	if err != nil {
		writeError(w, invalidQuery(err.Error()))
		return q, false
	}
	if !v.Operator {
		q.Key = v.Key
	}
	return q, true
}

func invalidQuery(message string) wire.Error {
	return wire.Error{Status: http.StatusBadRequest, Type: wire.TypeInvalid, Code: "invalid_query", Message: message}
}

// unreadable is the client's error if calls cannot be read.
func unreadable(err error) wire.Error {
	if errors.Is(err, control.ErrNoCall) {
		return wire.Error{Status: http.StatusNotFound, Type: wire.TypeInvalid, Code: wire.CodeNotFound, Message: "there is no such call"}
	}
	if errors.Is(err, control.ErrAfter) {
		return invalidQuery(err.Error())
	}
	return wire.Error{Status: http.StatusServiceUnavailable, Type: wire.TypeServer, Code: "ledger_unavailable", Message: err.Error()}
}

// usage serves the sums of a period.
func (h *Handler) usage(w http.ResponseWriter, r *http.Request, v viewer) {
	if !mayReadCalls(w, v) {
		return
	}
	query := r.URL.Query()
	var period [2]time.Time
	for i, name := range []string{"since", "until"} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		var err error
		if period[i], err = time.Parse(time.RFC3339, text); err != nil {
			writeError(w, invalidQuery(name+" has to be a time (example: 2026-11-01T00:00:00Z)"))
			return
		}
	}
	by := query.Get("by")
	if by != "" && !slices.Contains(control.UsageBy, by) {
		writeError(w, invalidQuery("by has to be one of "+strings.Join(control.UsageBy, ", ")))
		return
	}
	u, err := h.o.Daemon.UsageOfKey(r.Context(), v.Key, period[0], period[1], by) // an operator's Viewer has no key
	if err != nil {
		writeError(w, unreadable(err))
		return
	}
	writeJSON(w, u)
}

// csvColumns are the columns of an export. Amounts are in USD. An empty cell is an unknown
// value.
var csvColumns = []struct {
	name string
	cell func(*control.Call) string
}{
	{"id", func(c *control.Call) string { return c.ID }},
	{"time", func(c *control.Call) string { return c.Time.UTC().Format(time.RFC3339Nano) }},
	{"request_id", func(c *control.Call) string { return text(c.Request) }},
	{"key", func(c *control.Call) string { return text(c.Key) }},
	{"route", func(c *control.Call) string { return text(c.Route) }},
	{"model", func(c *control.Call) string { return text(c.Model) }},
	{"backend", func(c *control.Call) string { return text(c.Backend) }},
	{"backend_model", func(c *control.Call) string { return text(c.BackendModel) }},
	{"reason", func(c *control.Call) string { return c.Reason }},
	{"status", func(c *control.Call) string { return strconv.Itoa(c.Status) }},
	{"stream", func(c *control.Call) string { return strconv.FormatBool(c.Stream) }},
	{"local", func(c *control.Call) string { return strconv.FormatBool(c.Local) }},
	{"wait_ms", func(c *control.Call) string { return number(c.WaitMS) }},
	{"first_ms", func(c *control.Call) string { return number(c.FirstMS) }},
	{"ms", func(c *control.Call) string { return strconv.FormatInt(c.MS, 10) }},
	{"prompt_tokens", func(c *control.Call) string { return number(c.Prompt) }},
	{"cached_tokens", func(c *control.Call) string { return number(c.Cached) }},
	{"completion_tokens", func(c *control.Call) string { return number(c.Completion) }},
	{"cost_usd", func(c *control.Call) string { return amount(c.Cost) }},
	{"saved_usd", func(c *control.Call) string { return amount(c.Saved) }},
	{"resumed", func(c *control.Call) string { return strconv.FormatBool(c.Resumed) }},
	{"partial", func(c *control.Call) string { return strconv.FormatBool(c.Partial) }},
}

// exportCalls serves all calls that a query selects as CSV (RFC 4180). It holds one row at a
// time.
func (h *Handler) exportCalls(w http.ResponseWriter, r *http.Request, v viewer) {
	q, ok := callsQuery(w, r, v)
	if !ok {
		return
	}
	ctx, cancel := h.untilClosed(r.Context())
	defer cancel()
	const rowsPerDeadline = 500
	out := csv.NewWriter(w)
	row, rows := make([]string, len(csvColumns)), 0
	for i, column := range csvColumns {
		row[i] = column.name
	}
	begin := func() error {
		w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
		w.Header().Set("Content-Disposition", `attachment; filename="llmsup-calls.csv"`)
		return out.Write(row)
	}
	err := h.o.Daemon.EachCall(ctx, q, func(c control.Call) error {
		if rows == 0 {
			if err := begin(); err != nil {
				return err
			}
		}
		if rows++; rows%rowsPerDeadline == 1 {
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return err
			}
		}
		for i, column := range csvColumns {
			row[i] = column.cell(&c)
		}
		return out.Write(row)
	})
	if err == nil && rows == 0 {
		err = begin()
	}
	out.Flush()
	switch {
	case err != nil && rows == 0:
		writeError(w, unreadable(err))
	case err != nil:
		panic(http.ErrAbortHandler) // so that a part is not taken for the whole
	}
}

// text returns a text as a cell. A spreadsheet would run one that begins as a formula does,
// and clients choose the names of models.
func text(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

func number(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

func amount(a *control.USD) string {
	if a == nil {
		return ""
	}
	return usd.Amount(*a).String()
}
