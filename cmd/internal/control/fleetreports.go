package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"
)

// FleetReport is which boxes a report of the whole fleet has, and which it lacks. In a report
// of this box alone it is empty.
type FleetReport struct {
	Fleet    *Fleet       `json:"fleet,omitempty"`
	Answered []string     `json:"answered,omitzero"` // names of boxes, sorted
	Missing  []MissingBox `json:"missing,omitzero"`  // by name
}

// MissingBox is a box that a report lacks. It is known only if it was in the fleet within the
// last day.
type MissingBox struct {
	Box string `json:"box"`
	Why string `json:"why"` // human-readable, as in "has not answered within 2 s"
}

// FleetStatus is the answer of GET /v1/fleet/status.
type FleetStatus struct {
	Inflight int         `json:"inflight"` // calls in flight that clients have made at these boxes
	Boxes    []BoxStatus `json:"boxes"`    // by name
	FleetReport
}

// BoxStatus is the status of a box.
type BoxStatus struct {
	Box    string `json:"box"`
	Status Status `json:"status"`
}

// FleetBoxes is the answer of GET /v1/fleet/boxes.
type FleetBoxes struct {
	Boxes []AskedBox `json:"boxes"` // by name
	FleetReport
}

// AskedBox is what a box has answered of itself.
type AskedBox struct {
	Box
	AnswerMS int64    `json:"answer_ms"` // until its answer was there
	Knows    []string `json:"knows"`     // the other boxes that it knows to be in the fleet
	Unaware  []string `json:"unaware"`   // boxes that have answered, and that it does not know
}

// ErrNoFleet means that there is no fleet to report of.
var ErrNoFleet = errors.New("this box is in no fleet; fleet: in llmsup.yaml joins one")

// FleetUsageBy is what the usage of a fleet can be grouped by.
var FleetUsageBy = slices.Concat(UsageBy, []string{"box"})

// FleetReader asks all boxes of the fleet, and adds up their answers. It takes two seconds at
// most. ErrNoFleet means that this box has no fleet; what a report lacks is no error, unless it
// is all.
type FleetReader interface {
	// FleetUsage is Usage of all boxes; by may be "box" as well.
	FleetUsage(ctx context.Context, from, to time.Time, by string) (Usage, error)
	// FleetCalls is Calls of all boxes, by the boxes' clocks. It has no next page.
	FleetCalls(ctx context.Context, q CallsQuery) (CallsPage, error)
	FleetStatus(ctx context.Context) (FleetStatus, error)
	FleetBoxes(ctx context.Context) (FleetBoxes, error)
}

func handleFleet(mux *http.ServeMux, daemon FleetReader) {
	mux.HandleFunc("GET /v1/fleet/usage", func(w http.ResponseWriter, r *http.Request) {
		if q, ok := parseUsageQuery(w, r, FleetUsageBy); ok {
			answerFleet(w, func() (Usage, error) { return daemon.FleetUsage(r.Context(), q.from, q.to, q.by) })
		}
	})
	mux.HandleFunc("GET /v1/fleet/calls", func(w http.ResponseWriter, r *http.Request) {
		q, err := ParseCallsQuery(r.URL.Query())
		if err == nil && q.After != "" {
			err = errors.New("the calls of a fleet have one page; ask for a shorter time")
		}
		if err != nil {
			reject(w, http.StatusBadRequest, err.Error())
			return
		}
		answerFleet(w, func() (CallsPage, error) { return daemon.FleetCalls(r.Context(), q) })
	})
	mux.HandleFunc("GET /v1/fleet/status", func(w http.ResponseWriter, r *http.Request) {
		answerFleet(w, func() (FleetStatus, error) { return daemon.FleetStatus(r.Context()) })
	})
	mux.HandleFunc("GET /v1/fleet/boxes", func(w http.ResponseWriter, r *http.Request) {
		answerFleet(w, func() (FleetBoxes, error) { return daemon.FleetBoxes(r.Context()) })
	})
}

func answerFleet[T any](w http.ResponseWriter, report func() (T, error)) {
	all, err := report()
	switch {
	case errors.Is(err, ErrNoFleet):
		writeJSON(w, http.StatusConflict, errorBody{Error: err.Error(), NoFleet: true})
	case errors.Is(err, ErrNoCall):
		rejectCall(w, err)
	case err != nil:
		reject(w, http.StatusServiceUnavailable, err.Error())
	default:
		writeJSON(w, http.StatusOK, all)
	}
}

// FleetUsage returns the sums of the calls of all boxes, as Usage does.
func (c *Client) FleetUsage(ctx context.Context, from, to time.Time, by string) (Usage, error) {
	return get[Usage](ctx, c, "/v1/fleet/usage?"+UsageValues(from, to, by).Encode())
}

// FleetCalls returns calls of all boxes.
func (c *Client) FleetCalls(ctx context.Context, q CallsQuery) (CallsPage, error) {
	return get[CallsPage](ctx, c, "/v1/fleet/calls?"+q.Values().Encode())
}

// FleetStatus returns the status of all boxes.
func (c *Client) FleetStatus(ctx context.Context) (FleetStatus, error) {
	return get[FleetStatus](ctx, c, "/v1/fleet/status")
}

// FleetBoxes returns what each box answers of itself.
func (c *Client) FleetBoxes(ctx context.Context) (FleetBoxes, error) {
	return get[FleetBoxes](ctx, c, "/v1/fleet/boxes")
}

// MarshalJSON writes empty lists as [].
func (s FleetStatus) MarshalJSON() ([]byte, error) {
	type plain FleetStatus
	p := plain(s)
	p.Boxes = nonNil(p.Boxes)
	return json.Marshal(p)
}

// MarshalJSON writes empty lists as [].
func (b FleetBoxes) MarshalJSON() ([]byte, error) {
	type plain FleetBoxes
	p := plain(b)
	p.Boxes = nonNil(p.Boxes)
	return json.Marshal(p)
}
