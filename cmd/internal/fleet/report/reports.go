package report

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// FleetUsage implements control.FleetReader.
func (s *Service) FleetUsage(ctx context.Context, from, to time.Time, by string) (control.Usage, error) {
	asked := by
	if by == "box" { // only the totals count
		asked = "model"
	}
	sum := usageSum{boxes: groups{}, groups: groups{}, reasons: groups{}, days: groups{}}
	r, err := ask(ctx, s, apiCall{Path: usagePath + "?" + control.UsageValues(from, to, asked).Encode()}, sum.add)
	if err != nil {
		return control.Usage{}, err
	}
	u := sum.usage(by)
	u.FleetReport = r
	return u, nil
}

// FleetCalls implements control.FleetReader.
func (s *Service) FleetCalls(ctx context.Context, q control.CallsQuery) (control.CallsPage, error) {
	var all control.CallsPage
	var incomplete []string
	r, err := ask(ctx, s, apiCall{Path: callsPath + "?" + q.Values().Encode()}, func(box string, page control.CallsPage) {
		for _, list := range [][]control.Call{page.InFlight, page.Calls} {
			for i := range list {
				list[i].Box = box
			}
		}
		all.InFlight = append(all.InFlight, page.InFlight...)
		all.Calls = append(all.Calls, page.Calls...)
		slices.SortStableFunc(all.Calls, func(a, b control.Call) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Box, b.Box)) })
		all.Calls = all.Calls[:min(len(all.Calls), q.Limit)]
		incomplete = appendNote(incomplete, box, page.Incomplete)
	})
	if err != nil {
		return all, err
	}
	slices.SortStableFunc(all.InFlight, func(a, b control.Call) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Box, b.Box)) })
	all.Incomplete, all.FleetReport = joinNotes(incomplete), r
	return all, nil
}

// FleetStatus implements control.FleetReader.
func (s *Service) FleetStatus(ctx context.Context) (all control.FleetStatus, err error) {
	all.FleetReport, err = ask(ctx, s, apiCall{Path: statusPath}, func(box string, status control.Status) {
		all.Inflight += status.Inflight
		all.Boxes = append(all.Boxes, control.BoxStatus{Box: box, Status: status})
	})
	slices.SortFunc(all.Boxes, func(a, b control.BoxStatus) int { return cmp.Compare(a.Box, b.Box) })
	return all, err
}

// FleetBoxes implements control.FleetReader.
func (s *Service) FleetBoxes(ctx context.Context) (all control.FleetBoxes, err error) {
	began := time.Now()
	all.FleetReport, err = ask(ctx, s, apiCall{Path: boxesPath}, func(_ string, view control.Boxes) {
		asked := control.AskedBox{AnswerMS: time.Since(began).Milliseconds(), Knows: []string{}, Unaware: []string{}}
		for _, b := range view.Boxes {
			if b.This {
				asked.Box = b
				continue
			}
			asked.Knows = append(asked.Knows, b.Name)
		}
		all.Boxes = append(all.Boxes, asked)
	})
	if all.Fleet == nil {
		return all, err
	}
	for i := range all.Boxes {
		b := &all.Boxes[i]
		b.This = b.Name == all.Fleet.Box
		for _, name := range all.Answered {
			if name != b.Name && !slices.Contains(b.Knows, name) {
				b.Unaware = append(b.Unaware, name)
			}
		}
	}
	slices.SortFunc(all.Boxes, func(a, b control.AskedBox) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// appendNote adds why an answer of a box lacks calls; "" = it does not.
func appendNote(notes []string, box, note string) []string {
	if note == "" {
		return notes
	}
	return append(notes, box+": "+note)
}

func joinNotes(notes []string) string {
	slices.Sort(notes)
	return strings.Join(notes, "; ")
}
