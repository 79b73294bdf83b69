package report

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// FleetCall implements control.CallFinder.
func (s *Service) FleetCall(ctx context.Context, id string) (page control.CallsPage, err error) {
	page.FleetReport, err = ask(ctx, s, apiCall{Path: callPath + url.PathEscape(id)}, func(box string, call control.Call) {
		call.Box = box
		page.Calls = append(page.Calls, call)
	})
	return page, err
}

// FleetCancelCall implements control.CallFinder.
func (s *Service) FleetCancelCall(ctx context.Context, id, by string) (all control.Cancelled, err error) {
	body, err := json.Marshal(control.CancelRequest{ID: id})
	if err != nil {
		return all, err
	}
	if v := s.o.View(); v != nil {
		by += " at " + v.Name
	}
	all.FleetReport, err = ask(ctx, s, apiCall{Path: cancelPath, Body: body, By: by}, func(box string, cancelled control.Cancelled) {
		for _, call := range cancelled.Calls {
			call.Box = box
			all.Calls = append(all.Calls, call)
		}
	})
	return all, err
}
