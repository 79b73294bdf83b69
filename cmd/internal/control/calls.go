package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Calls lists and cancels calls.
type Calls interface {
	// Calls returns calls in flight and those that have ended.
	Calls(ctx context.Context, q CallsQuery) (CallsPage, error)
	// Call returns one call with its attempts. ErrNoCall means that there is none.
	Call(ctx context.Context, id string) (Call, error)
	// EachCall emits all calls that have ended, whatever the query's limit, the latest first.
	EachCall(ctx context.Context, q CallsQuery, emit func(Call) error) error
	// FollowCalls calls begin, emits the calls in flight, and then each call when it begins
	// and when it ends, until ctx ends or emit returns an error.
	FollowCalls(ctx context.Context, q CallsQuery, begin func() error, emit func(CallEvent) error) error
	// CancelCall cancels the call with an id or, if there is none, those whose X-Request-Id it
	// is, and returns them. ErrNoCall means that there is none. by says in the log who has
	// cancelled it.
	CancelCall(id, by string) ([]Call, error)
}

// Call is a call in flight, or one that has ended. A value that is not known is null.
type Call struct {
	ID           string    `json:"id"`
	Time         time.Time `json:"time"`           // when it came
	Request      string    `json:"request_id"`     // X-Request-Id
	Path         string    `json:"path,omitempty"` // only of a call in flight
	Key          string    `json:"key"`            // the name of the client's key; "" = none
	Route        string    `json:"route"`
	Model        string    `json:"model"`         // as the client named it
	Backend      string    `json:"backend"`       // "" = none
	BackendModel string    `json:"backend_model"` // the model's name there
	Reason       string    `json:"reason"`        // why the primary has not answered; "" = it has, or is asked
	Phase        string    `json:"phase"`         // one of router/inflight, or PhaseEnded
	Place        int       `json:"place"`         // in the queue of its server, 1 = next; 0 = it does not wait
	Status       int       `json:"status"`        // HTTP; 0 = it has not ended
	Stream       bool      `json:"stream"`
	Local        bool      `json:"local"`    // a local server answered; false while it is in flight
	WaitMS       *int64    `json:"wait_ms"`  // in queues; null = it did not wait, or has not ended
	FirstMS      *int64    `json:"first_ms"` // to the first answer; null = there is none
	MS           int64     `json:"ms"`       // so far, or in all
	Prompt       *int64    `json:"prompt_tokens"`
	Cached       *int64    `json:"cached_tokens"`
	Completion   *int64    `json:"completion_tokens"` // of a call in flight: the events of its answer so far
	Cost         *USD      `json:"cost_usd"`
	Saved        *USD      `json:"saved_usd"`
	Resumed      bool      `json:"resumed"`
	Partial      bool      `json:"partial"`
	Box          string    `json:"box,omitempty"` // of a report of the fleet: the box that the client called

	// Attempts are those at the call, the last one included. None: one backend was asked, and has
	// answered or is to answer.
	Attempts []CallAttempt `json:"attempts"`
}

// PhaseEnded is the phase of a call that has ended.
const PhaseEnded = "ended"

// CallAttempt is an attempt at a call.
type CallAttempt struct {
	Backend string `json:"backend"`
	Model   string `json:"model"`  // its name there
	Reason  string `json:"reason"` // why it failed; "" = the backend answered
	Status  int    `json:"status"` // HTTP; 0 = the backend sent none
	MS      int64  `json:"ms"`     // waiting included
	Cost    *USD   `json:"cost_usd"`
	Skipped bool   `json:"skipped"` // the backend was not asked
	Detail  string `json:"detail"`  // the reason in plain text
}

// MarshalJSON writes an empty list as [].
func (c Call) MarshalJSON() ([]byte, error) {
	type plain Call
	p := plain(c)
	p.Attempts = nonNil(p.Attempts)
	return json.Marshal(p)
}

// CallsPage is the answer of GET /v1/calls.
type CallsPage struct {
	InFlight []Call `json:"in_flight"` // the oldest first; only on the first page
	Calls    []Call `json:"calls"`     // those that have ended, the latest first
	Next     string `json:"next"`      // the After of the next page; "" = there is none

	Incomplete string `json:"incomplete,omitempty"` // why some calls may be missing

	FleetReport
}

// MarshalJSON writes empty lists as [].
func (p CallsPage) MarshalJSON() ([]byte, error) {
	type plain CallsPage
	p.InFlight, p.Calls = nonNil(p.InFlight), nonNil(p.Calls)
	return json.Marshal(plain(p))
}

// CallEvent is a line of GET /v1/calls?follow=true.
type CallEvent struct {
	Event string `json:"event"` // CallInFlight, CallBegan or CallEnded
	Lost  int    `json:"lost"`  // events before this one that were dropped because the reader was too slow
	Call  Call   `json:"call"`
}

// The events.
const (
	CallInFlight = "in_flight" // when the stream began
	CallBegan    = "began"
	CallEnded    = "ended"
)

// CallsQuery selects calls. A zero field does not limit them.
type CallsQuery struct {
	Since, Until time.Time
	Model        string
	Key          string
	Backend      string
	Reason       string
	Status       string // an HTTP status, or a class as in "5xx"; calls in flight have none
	Limit        int    // of the calls that have ended
	After        string // the Next of the page before; "" = the first page
}

// ErrAfter means that a query's After is none that an earlier answer had as Next.
var ErrAfter = errors.New("after is not the `next` of an earlier answer to the same query")

// ErrNoCall means that there is no such call. It is the beginning of a message.
var ErrNoCall = errors.New("there is no call")

// MaxCalls limits the calls of a page, and DefaultCalls is their number if the query has none.
const (
	MaxCalls     = 1000
	DefaultCalls = 20
)

// StatusRange returns the least and the greatest status that the query selects; 0, 0 = all.
func (q CallsQuery) StatusRange() (from, to int, err error) {
	if q.Status == "" {
		return 0, 0, nil
	}
	if class, isClass := q.Status[0]-'0', len(q.Status) == 3 && q.Status[1:] == "xx"; isClass && 1 <= class && class <= 5 {
		return int(class) * 100, int(class)*100 + 99, nil
	}
	if n, err := strconv.Atoi(q.Status); err == nil && 100 <= n && n <= 999 {
		return n, n, nil
	}
	return 0, 0, fmt.Errorf("%q is not an HTTP status (examples: 503, 5xx)", q.Status)
}

// Check returns an error if the query is invalid.
func (q CallsQuery) Check() error {
	if q.Limit < 0 || q.Limit > MaxCalls {
		return fmt.Errorf("the limit has to be between 1 and %d", MaxCalls)
	}
	_, _, err := q.StatusRange()
	return err
}

// Selects reports whether the query selects a call.
func (q CallsQuery) Selects(c Call) bool {
	from, to, _ := q.StatusRange()
	return !c.Time.Before(q.Since) && (q.Until.IsZero() || c.Time.Before(q.Until)) &&
		(q.Model == "" || q.Model == c.Model) && (q.Key == "" || q.Key == c.Key) && (q.Backend == "" || q.Backend == c.Backend) &&
		(q.Reason == "" || q.Reason == c.Reason) && (to == 0 || from <= c.Status && c.Status <= to)
}

// Values returns the query as that of a URL.
func (q CallsQuery) Values() url.Values {
	v := url.Values{}
	for name, text := range map[string]string{"model": q.Model, "key": q.Key, "backend": q.Backend, "reason": q.Reason, "status": q.Status, "after": q.After} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParseCallsQuery reads the query of a URL.
func ParseCallsQuery(v url.Values) (q CallsQuery, err error) {
	q = CallsQuery{
		Model: v.Get("model"), Key: v.Get("key"), Backend: v.Get("backend"), Reason: v.Get("reason"), Status: v.Get("status"),
		After: v.Get("after"), Limit: DefaultCalls,
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return q, errors.New(name + " has to be a time (example: 2026-11-01T00:00:00Z)")
			}
		}
	}
	if text := v.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 {
			return q, fmt.Errorf("limit has to be a number between 1 and %d", MaxCalls)
		}
	}
	return q, q.Check()
}

// CancelRequest is the body of POST /v1/calls/cancel.
type CancelRequest struct {
	ID string `json:"id"`
}

// Cancelled is the answer of POST /v1/calls/cancel.
type Cancelled struct {
	Calls []Call `json:"calls"` // as they were before
	FleetReport
}

func handleCalls(mux *http.ServeMux, daemon Calls) {
	mux.HandleFunc("GET /v1/calls", func(w http.ResponseWriter, r *http.Request) {
		q, err := ParseCallsQuery(r.URL.Query())
		switch {
		case err != nil:
			reject(w, http.StatusBadRequest, err.Error())
		case r.URL.Query().Get("follow") == "true":
			followCalls(w, r, daemon, q)
		default:
			page, err := daemon.Calls(r.Context(), q)
			if err != nil {
				reject(w, callErrorStatus(err), err.Error())
				return
			}
			writeJSON(w, http.StatusOK, page)
		}
	})
	mux.HandleFunc("GET /v1/calls/{id}", func(w http.ResponseWriter, r *http.Request) {
		call, err := daemon.Call(r.Context(), r.PathValue("id"))
		if err != nil {
			rejectCall(w, err)
			return
		}
		writeJSON(w, http.StatusOK, call)
	})
	mux.HandleFunc("POST /v1/calls/cancel", func(w http.ResponseWriter, r *http.Request) {
		var which CancelRequest
		if !readBody(w, r, &which, "id") {
			return
		}
		calls, err := daemon.CancelCall(which.ID, peerName(r))
		if err != nil {
			rejectCall(w, err)
			return
		}
		writeJSON(w, http.StatusOK, Cancelled{Calls: nonNil(calls)})
	})
}

// rejectCall answers a request for one call.
func rejectCall(w http.ResponseWriter, err error) {
	writeJSON(w, callErrorStatus(err), errorBody{Error: err.Error(), NoCall: errors.Is(err, ErrNoCall)})
}

func callErrorStatus(err error) int {
	switch {
	case errors.Is(err, ErrNoCall):
		return http.StatusNotFound
	case errors.Is(err, ErrAfter):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

func followCalls(w http.ResponseWriter, r *http.Request, daemon Calls, q CallsQuery) {
	lines, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	// An error means that the client closed the connection.
	_ = daemon.FollowCalls(r.Context(), q, func() error {
		w.Header().Set("Content-Type", "application/x-ndjson")
		return flush() // the headers, before the first line
	}, func(e CallEvent) error {
		if err := lines.Encode(e); err != nil {
			return err
		}
		return flush()
	})
}

// peerName names the user at the other end of the socket, or at another box, for the log.
func peerName(r *http.Request) string {
	if by, ok := r.Context().Value(operatorKey{}).(string); ok {
		return by
	}
	if p, ok := r.Context().Value(peerKey{}).(peer); ok {
		return "user " + strconv.Itoa(p.uid)
	}
	return "an unknown user"
}

// Calls returns calls in flight and those that have ended.
func (c *Client) Calls(ctx context.Context, q CallsQuery) (CallsPage, error) {
	return request[CallsPage](ctx, c, http.MethodGet, "/v1/calls?"+q.Values().Encode(), nil, usageTimeout)
}

// FollowCalls emits the calls in flight, and then each call when it begins and when it ends,
// until ctx ends.
func (c *Client) FollowCalls(ctx context.Context, q CallsQuery, emit func(CallEvent) error) error {
	v := q.Values()
	v.Set("follow", "true")
	resp, err := c.open(ctx, http.MethodGet, "/v1/calls?"+v.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeLines(ctx, c, resp.Body, emit)
}

// Call returns one call with its attempts.
func (c *Client) Call(ctx context.Context, id string) (Call, error) {
	return request[Call](ctx, c, http.MethodGet, "/v1/calls/"+url.PathEscape(id), nil, usageTimeout)
}

// CancelCall cancels the call with an id or an X-Request-Id, and returns the calls that it was.
func (c *Client) CancelCall(ctx context.Context, id string) ([]Call, error) {
	body, err := json.Marshal(CancelRequest{id})
	if err != nil {
		return nil, err
	}
	answer, err := request[Cancelled](ctx, c, http.MethodPost, "/v1/calls/cancel", body, answerTimeout)
	return answer.Calls, err
}
