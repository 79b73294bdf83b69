package report

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// ask calls the control API of all boxes, and then take for each answer, this box's
// included, one after the other. It returns which boxes have answered. An error means that none
// has, or that take has returned it.
func ask[T any](ctx context.Context, s *Service, q apiCall, take func(box string, v T)) (control.FleetReport, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if c := s.conn.Load(); c != nil {
		c.AwaitBoxes(ctx)
	}
	v := s.o.View()
	if v == nil {
		return control.FleetReport{}, control.ErrNoFleet
	}
	r := control.FleetReport{
		Fleet:    Membership(v),
		Answered: []string{}, Missing: absent(v),
	}
	own := errors.New("no box has answered")
	lacks := func(box, why string) { r.Missing = append(r.Missing, control.MissingBox{Box: box, Why: why}) }
	accept := func(box string, a answer) {
		value, err := decode[T](a)
		switch {
		case err == nil:
			r.Answered = append(r.Answered, box)
			take(box, value)
			return
		case errors.Is(err, control.ErrNoCall):
			r.Answered = append(r.Answered, box)
			return
		case box == v.Name:
			own = err
		}
		lacks(box, err.Error())
	}
	s.collect(ctx, v, q, accept, lacks)
	slices.Sort(r.Answered)
	slices.SortFunc(r.Missing, func(a, b control.MissingBox) int { return cmp.Compare(a.Box, b.Box) })
	if len(r.Answered) == 0 {
		return r, own
	}
	return r, nil
}

// absent returns the boxes that are not in the fleet any more.
func absent(v *fleet.View) []control.MissingBox {
	list := []control.MissingBox{}
	for _, peer := range v.Absent {
		why := "has been silent for %s"
		if peer.Leaving {
			why = "has left the fleet %s ago"
		}
		list = append(list, control.MissingBox{Box: peer.Name, Why: fmt.Sprintf(why, rounded(time.Since(peer.Seen)))})
	}
	return list
}

// rounded returns a time to the second, or from a minute on to the minute.
func rounded(d time.Duration) string {
	if d < time.Minute {
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// decode returns what a box has answered, or why it could not answer. ErrNoCall means that it does
// not have the call that it was asked for.
func decode[T any](a answer) (value T, err error) {
	if a.status != http.StatusOK {
		var e struct {
			Error  string
			NoCall bool `json:"no_call"`
		}
		if json.Unmarshal(a.body, &e) != nil || e.Error == "" {
			e.Error = fmt.Sprintf("status %d", a.status)
		}
		if e.NoCall {
			return value, control.ErrNoCall
		}
		return value, fmt.Errorf("cannot answer: %s", e.Error)
	}
	if err := json.Unmarshal(a.body, &value); err != nil {
		return value, fmt.Errorf("has sent an answer that cannot be read: %w; it may have another version of llmsup", err)
	}
	return value, nil
}

// named is the answer of a box.
type named struct {
	instance string
	answer
}

// collect asks all boxes, and calls accept for each answer, and lacks for each box of the view
// that has not answered when ctx ends.
func (s *Service) collect(ctx context.Context, v *fleet.View, q apiCall, accept func(box string, a answer), lacks func(box, why string)) {
	waiting := map[string]string{} // names by instance: another box may have the same name
	for _, peer := range v.Boxes {
		waiting[peer.Instance] = peer.Name
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	got := make(chan named)
	send := func(n named) {
		select {
		case got <- n:
		case <-ctx.Done():
		}
	}
	if len(waiting) > 0 {
		end, err := s.send(ctx, q, func(p *part, a answer) { send(named{p.Instance, a}) })
		if !v.Joined && err == nil {
			err = errNotJoined
		}
		if err != nil {
			for _, name := range waiting {
				lacks(name, "was not asked: "+err.Error())
			}
			clear(waiting)
		}
		defer end()
	}
	const own = "" // is no instance
	waiting[own] = v.Name
	go func() { send(named{own, s.read(ctx, q)}) }()
	for len(waiting) > 0 {
		select {
		case n := <-got:
			if name, expected := waiting[n.instance]; expected {
				delete(waiting, n.instance)
				accept(name, n.answer)
			}
		case <-ctx.Done():
			for _, name := range waiting {
				lacks(name, fmt.Sprintf("has not answered within %s", s.timeout))
			}
			return
		}
	}
}

var errNotJoined = errors.New("this box is not in the fleet")

// send sends a request to all other boxes, and calls take for each answer until end is
// called.
func (s *Service) send(ctx context.Context, r apiCall, take func(p *part, a answer)) (end func(), err error) {
	end = func() {}
	c := s.conn.Load()
	if c == nil {
		return end, errNotJoined
	}
	q := request{ID: rand.Text(), apiCall: r}
	joiners := map[string]*joiner{}
	sub, err := c.NATS.Subscribe(q.subject(), func(m *nats.Msg) {
		p, err := openPart(c, m.Data)
		if err != nil || p.ID != q.ID || ctx.Err() != nil {
			return
		}
		if joiners[p.Instance] == nil {
			joiners[p.Instance] = &joiner{}
		}
		if a, whole := joiners[p.Instance].add(&p); whole {
			take(&p, a)
		}
	})
	if err != nil {
		return end, err
	}
	end = func() { _ = sub.Unsubscribe() } // fails only if the connection is lost
	return end, c.Send(requestSubject, requestPurpose, q)
}

// Membership returns what a view says of this box.
func Membership(v *fleet.View) *control.Fleet {
	return &control.Fleet{Box: v.Name, Joined: v.Joined, Problem: v.Problem, Others: len(v.Boxes), Foreign: append([]string{}, v.Foreign...)}
}
