package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// CallFinder finds a call of which it is not known at which box of the fleet it is. It takes two
// seconds at most. ErrNoFleet means that this box has no fleet.
type CallFinder interface {
	// FleetCall returns the call with an id, as a page of one call or of none.
	FleetCall(ctx context.Context, id string) (CallsPage, error)
	// FleetCancelCall is CancelCall at all boxes. It returns no calls if no box has one.
	FleetCancelCall(ctx context.Context, id, by string) (Cancelled, error)
}

func handleFleetCalls(mux *http.ServeMux, daemon CallFinder) {
	mux.HandleFunc("GET /v1/fleet/calls/{id}", func(w http.ResponseWriter, r *http.Request) {
		answerFleet(w, func() (CallsPage, error) {
			id := r.PathValue("id")
			page, err := daemon.FleetCall(r.Context(), id)
			if err == nil && len(page.Calls) == 0 {
				err = onNoBox(id, "", page.FleetReport)
			}
			return page, err
		})
	})
	mux.HandleFunc("POST /v1/fleet/calls/cancel", func(w http.ResponseWriter, r *http.Request) {
		var which CancelRequest
		if !readBody(w, r, &which, "id") {
			return
		}
		answerFleet(w, func() (Cancelled, error) {
			cancelled, err := daemon.FleetCancelCall(r.Context(), which.ID, peerName(r))
			if err == nil && len(cancelled.Calls) == 0 {
				err = onNoBox(which.ID, " in flight", cancelled.FleetReport)
			}
			return cancelled, err
		})
	})
}

// onNoBox says which boxes do not have a call, and which may have it.
func onNoBox(id, what string, r FleetReport) error {
	var unknown []string
	for _, m := range r.Missing {
		unknown = append(unknown, fmt.Sprintf("%s %s", m.Box, m.Why))
	}
	err := fmt.Errorf("%w %q%s on %s", ErrNoCall, id, what, strings.Join(r.Answered, ", "))
	switch {
	case r.Fleet != nil && !r.Fleet.Joined:
		err = fmt.Errorf("%w; other boxes cannot be asked, since this one is not in its fleet: %s", err, r.Fleet.Problem)
	case len(unknown) > 0:
		err = fmt.Errorf("%w; it may be on another box: %s", err, strings.Join(unknown, "; "))
	}
	return err
}

// FleetCall returns the call with an id from the box that has it.
func (c *Client) FleetCall(ctx context.Context, id string) (Call, error) {
	page, err := get[CallsPage](ctx, c, "/v1/fleet/calls/"+url.PathEscape(id))
	if err == nil && len(page.Calls) == 0 {
		err = errors.New("the daemon has answered without the call")
	}
	if err != nil {
		return Call{}, err
	}
	return page.Calls[0], nil
}

// FleetCancelCall cancels the call with an id or an X-Request-Id at all boxes.
func (c *Client) FleetCancelCall(ctx context.Context, id string) (Cancelled, error) {
	body, err := json.Marshal(CancelRequest{id})
	if err != nil {
		return Cancelled{}, err
	}
	return request[Cancelled](ctx, c, http.MethodPost, "/v1/fleet/calls/cancel", body, answerTimeout)
}
