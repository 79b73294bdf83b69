package ownbox

import (
	"slices"
	"sync"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/cmd/internal/page/feed"
)

// state makes what the box announces.
type state struct {
	o     Options
	mu    sync.Mutex
	rates feed.Rates
}

// box returns the present state of this box.
func (s *state) box() fleet.Box {
	s.mu.Lock()
	speeds := s.rates.Observe(time.Now(), s.o.Traffic.InFlight(), s.o.Traffic.LastEnded())
	s.mu.Unlock()
	return boxOf(s.o.Daemon.Status(), s.o.Daemon.Models(), speeds)
}

// boxOf returns the state of a box.
func boxOf(status control.Status, models []control.Model, speeds map[string]feed.Speed) fleet.Box {
	b := fleet.Box{Version: status.Version, Drained: status.Drain != nil, Models: []fleet.Model{}, GPUs: []fleet.GPU{}}
	if status.Fleet != nil && status.Fleet.Configuration != nil {
		c := status.Fleet.Configuration
		b.ConfigVersion, b.ConfigRefused, b.ConfigProblem, b.NoKeys = c.Version, c.Refused, fleet.Text(c.Problem), c.NoKeys
	}
	for _, server := range status.Servers {
		m := fleet.Model{
			Name: server.Name, State: server.State, Queued: server.Queued, Drained: server.Drain != nil,
			TokensPerSecond: speeds[server.Name].TokensPerSecond, FirstTokenSeconds: speeds[server.Name].FirstTokenP50,
			ServiceSeconds: server.ServiceSeconds, PromptTokensPerSecond: server.PromptTokensPerSecond, LoadsInSeconds: server.LoadsInSeconds, Aggregation: server.Aggregation,
		}
		if server.ContextLength > 0 {
			m.ContextLength = new(server.ContextLength)
		}
		for _, ability := range server.Capabilities {
			m.Capabilities = append(m.Capabilities, string(ability))
		}
		if server.Slots > 0 {
			m.Slots, m.Free = new(server.Slots), new(0)
			if server.State == "ready" || server.State == "degraded" {
				m.Free = new(max(server.Slots-server.Busy, 0))
			}
		}
		if i := slices.IndexFunc(models, func(c control.Model) bool { return c.Name == server.Name }); i >= 0 {
			m.LoadSeconds = models[i].LoadSeconds
		}
		b.Models = append(b.Models, m)
	}
	for _, g := range status.GPUs {
		b.GPUs = append(b.GPUs, fleet.GPU{Index: g.Index, Health: g.Health})
	}
	return b
}
