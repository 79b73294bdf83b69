package feed

import (
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// fleetInterval is how often all boxes are asked for the sums of the day, while the page of an
// operator is open.
const fleetInterval = 10 * time.Second

// fleetSection is the section of the other boxes, and of this one among them.
type fleetSection struct {
	control.Fleet
	Boxes  []control.Box       `json:"boxes"`
	Absent []control.AbsentBox `json:"absent"`
	Today  *fleetToday         `json:"today"` // null = the viewer is no operator, or the sums are not there yet
}

// fleetToday is the day's calls of all boxes.
type fleetToday struct {
	Today
	Answered int                  `json:"answered"` // boxes
	Missing  []control.MissingBox `json:"missing"`
}

// fleetFor returns the section of a Viewer; nil = there is no fleet. Only an operator sees sums,
// addresses, and what does not work with the configuration.
func (f *Feed) fleetFor(v Viewer, all control.Boxes) *fleetSection {
	if all.Fleet == nil {
		return nil
	}
	s := &fleetSection{Fleet: *all.Fleet, Boxes: nonNil(slices.Clone(all.Boxes)), Absent: nonNil(slices.Clone(all.Absent))}
	for i := range s.Boxes {
		s.Boxes[i].SeenSeconds, s.Boxes[i].Seq = 0, 0 // they change with each announcement
	}
	if v.Operator {
		s.Today = f.fleet.ofFleet(v)
		return s
	}
	for i := range s.Boxes {
		s.Boxes[i].Address, s.Boxes[i].ConfigProblem = "", ""
	}
	for i := range s.Absent {
		s.Absent[i].Address = ""
	}
	return s
}

// ofFleet returns the sums of the fleet; nil = they are not there yet.
func (t *today) ofFleet(v Viewer) *fleetToday {
	sums := t.of(v)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.usage == nil {
		return nil
	}
	return &fleetToday{sums, len(t.usage.Answered), nonNil(t.usage.Missing)}
}
