package ownbox

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/boxes"
)

// setInterval is the shortest time between two updates of the router: in a large fleet, boxes
// announce themselves all the time.
const setInterval = 20 * time.Millisecond

// updateRouter keeps the router's view of the fleet up to date until ctx ends.
func (m *Membership) updateRouter(ctx context.Context, present *member) {
	if m.o.Boxes == nil {
		return
	}
	tlsConfig, err := present.settings.TLS()
	if err != nil {
		m.o.Log.Warn().Err(err).Msg("cannot use fleet.ca_file; the certificates of other boxes are checked against the system's authorities only")
	}
	for {
		v := present.View()
		m.o.Boxes.Set(fleetOf(v, m.others.of(v, time.Now()), present.Member, tlsConfig))
		var again <-chan time.Time
		if m.others.awaited() {
			again = time.After(rejoinTime)
		}
		select {
		case <-ctx.Done():
			return
		case <-v.Changed:
		case <-again:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(setInterval):
		}
	}
}

// startDelay limits how long the first calls wait for the other boxes.
const startDelay = 2 * time.Second

// AwaitBoxes waits until the box has joined its fleet and heard of all other boxes, which
// announce themselves every second: otherwise a box that starts drained, or loads its model,
// could answer no call yet. It waits at most startDelay.
func (m *Membership) AwaitBoxes(ctx context.Context) {
	present := m.present.Load()
	if present == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, startDelay)
	defer cancel()
	for v := present.View(); !v.Joined; v = present.View() {
		select {
		case <-ctx.Done():
			return
		case <-v.Changed:
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(fleet.AnnounceInterval + setInterval):
	}
}

// fleetOf returns the fleet as the router sees it. Without NATS the boxes still answer each
// other's calls: a box that is gone is noticed by the connections to it, and one that accepts no
// more calls refuses them.
func fleetOf(v *fleet.View, known []fleet.Peer, m *fleet.Member, tlsConfig *tls.Config) boxes.Fleet {
	f := boxes.Fleet{Name: v.Name, TLS: tlsConfig, Verify: m.VerifyHop, Alone: !v.Joined}
	for i := range known {
		peer := &known[i]
		b := boxes.Box{
			Name: peer.Name, Instance: peer.Instance, Address: peer.Address, Hop: v.Name + " " + m.HopCode(peer), Seq: peer.Seq, Servers: map[string]boxes.PeerState{},
		}
		for j := range peer.Models {
			b.Servers[peer.Models[j].Name] = stateOf(&peer.Models[j])
		}
		f.Boxes = append(f.Boxes, b)
	}
	return f
}

// stateOf returns the state of a server as the router sees it.
func stateOf(m *fleet.Model) boxes.PeerState {
	state := boxes.PeerState{
		Status: m.State, Drained: m.Drained, Queued: m.Queued, Slots: valueOf(m.Slots), Free: valueOf(m.Free), LoadsIn: seconds(m.LoadsInSeconds),
		Service: seconds(m.ServiceSeconds), Context: valueOf(m.ContextLength), Aggregation: m.Aggregation,
	}
	for _, c := range m.Capabilities {
		state.Abilities = append(state.Abilities, models.Ability(c))
	}
	if m.PromptTokensPerSecond != nil {
		state.PromptRate = *m.PromptTokensPerSecond
	}
	return state
}

func valueOf(n *int) int {
	if n == nil {
		return 0
	}
	return *n
}

func seconds(s *float64) time.Duration {
	if s == nil {
		return 0
	}
	return time.Duration(*s * float64(time.Second))
}
