package ownbox

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/fleet/fleetconfig"
	"github.com/llmsup/llmsup/cmd/internal/fleet/report"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
	"github.com/llmsup/llmsup/router/boxes"
)

// Options are what a Membership reads.
type Options struct {
	Daemon   feed.Daemon
	Traffic  feed.Traffic
	API      http.Handler         // the control API, which answers other boxes' reports
	Boxes    *boxes.Registry      // is kept up to date; nil = none
	Services []fleet.Service      // what else the box does on its connection
	Config   *fleetconfig.Manager // of the fleet; nil = none
	Log      zerolog.Logger
}

// Membership is that of this box in the fleet of the configuration, or in none. It implements
// control.BoxReader and control.CallFinder.
type Membership struct {
	control.FleetReader
	control.CallFinder

	o       Options
	present atomic.Pointer[member]
	others  lastKnown // for the present member's updateRouter, and for Apply while there is none

	mu     sync.Mutex // guards a replacement of present, and closed
	closed bool
}

// member is a fleet.Member that runs.
type member struct {
	*fleet.Member
	settings    fleet.Settings
	fingerprint [sha256.Size]byte
	state       *state
	stop        context.CancelFunc
	ended       chan struct{}
}

// New returns the membership of a box in no fleet.
func New(o Options) *Membership {
	m := &Membership{o: o}
	reports := report.New(report.Options{API: o.API, View: m.View, Log: o.Log})
	m.FleetReader, m.CallFinder = reports, reports
	m.o.Services = append(slices.Clone(o.Services), reports)
	if o.Config != nil {
		o.Config.SetView(m.View)
		m.o.Services = append(m.o.Services, o.Config)
	}
	return m
}

// Apply joins the fleet of the Settings. It leaves another one first, also if a file of the
// Settings has another content now, and reports whether that was why. The router keeps the boxes that
// it knows until the box has joined again, unless the fleet's key is another one.
func (m *Membership) Apply(s fleet.Settings) (otherFiles bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.present.Load()
	if m.closed || old == nil && !s.Enabled() || old != nil && old.settings.Equal(s) && old.fingerprint == s.Fingerprint() {
		return false
	}
	m.leave()
	if !s.Enabled() {
		m.others = lastKnown{}
		if m.o.Boxes != nil {
			m.o.Boxes.Set(boxes.Fleet{Alone: true}) // calls that wait at other boxes wait on
		}
		return false
	}
	if warning := s.Warning(); warning != "" {
		m.o.Log.Warn().Msg(warning)
	}
	ctx, stop := context.WithCancel(context.Background())
	next := &member{settings: s, fingerprint: s.Fingerprint(), state: &state{o: m.o}, stop: stop, ended: make(chan struct{})}
	next.Member = fleet.New(fleet.Options{Settings: s, State: next.state.box, Changes: m.o.Daemon.Changes, Services: m.o.Services, Log: m.o.Log})
	if old != nil && !next.SameKey(old.Member) {
		m.others = lastKnown{} // they accept no calls with another key
	}
	m.present.Store(next)
	go func() {
		defer close(next.ended)
		var updating sync.WaitGroup
		updating.Go(func() { m.updateRouter(ctx, next) })
		next.Run(ctx)
		updating.Wait()
	}()
	return old != nil && old.settings.Equal(s)
}

// Close leaves the fleet for good. The other boxes know it at once; it takes a second at most.
func (m *Membership) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.leave()
}

// leave ends the present member. The caller holds mu.
func (m *Membership) leave() {
	if old := m.present.Swap(nil); old != nil {
		old.stop()
		<-old.ended
	}
}

// View returns the fleet as this box knows it; nil = it has none.
func (m *Membership) View() *fleet.View {
	if present := m.present.Load(); present != nil {
		return present.View()
	}
	return nil
}

// Status returns whether the box is in its fleet; nil = it has none.
func (m *Membership) Status() *control.Fleet {
	present := m.present.Load()
	if present == nil {
		return nil
	}
	status := report.Membership(present.View())
	if m.o.Config != nil {
		status.Configuration = m.o.Config.Status()
	}
	return status
}

// Boxes returns the boxes that this one knows of, itself included.
func (m *Membership) Boxes() control.Boxes {
	present := m.present.Load()
	if present == nil {
		return control.Boxes{}
	}
	v, now := present.View(), time.Now()
	own := present.state.box()
	own.Name, own.Address = v.Name, present.settings.Advertise
	all := control.Boxes{Fleet: report.Membership(v), Boxes: []control.Box{{Box: own, This: true}}}
	for _, peer := range v.Boxes {
		peer.Models, peer.GPUs = append([]fleet.Model{}, peer.Models...), append([]fleet.GPU{}, peer.GPUs...) // never null
		all.Boxes = append(all.Boxes, control.Box{Box: peer.Box, SeenSeconds: max(now.Sub(peer.Seen).Seconds(), 0)})
	}
	for _, peer := range v.Absent {
		all.Absent = append(all.Absent, control.AbsentBox{
			Name: peer.Name, Address: peer.Address, Version: peer.Version, Left: peer.Leaving, LastSeen: peer.Seen.Truncate(time.Millisecond),
		})
	}
	return all
}
