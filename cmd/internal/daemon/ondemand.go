package daemon

import (
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/ondemand"
)

// loadingOf returns when a server's model is loaded.
func loadingOf(name string, c *config.Config) ondemand.Settings {
	entry := c.Servers[name]
	s := ondemand.Settings{OnDemand: entry.OnDemand(), IdleUnload: entry.IdleUnload, Pinned: entry.Pinned, Fallback: true}
	routes := 0
	for _, route := range c.Routes {
		if route.Primary == name {
			routes++
			s.Fallback = s.Fallback && len(route.FallbackList()) > 0
		}
	}
	s.Fallback = s.Fallback && routes > 0
	return s
}

// onDemandServers returns the servers as package ondemand sees them. Those that a reload has
// removed end by themselves.
func (d *Daemon) onDemandServers() (list []ondemand.Server, changed <-chan struct{}) {
	all := d.serverList.Load()
	for _, s := range all.servers {
		if s.removed {
			continue
		}
		list = append(list, ondemand.Server{
			Name: s.name, Settings: s.loading, Process: s.server, VRAM: s.workload, Demand: s.demand,
			Absent: func() (string, time.Time) { return d.absent(s) },
			Calls: func() ondemand.Calls {
				now := d.router.Load(s.name)
				return ondemand.Calls{
					InFlight: now.Calls, Bound: now.Bound, Total: now.Total, ForModel: now.ForModel, Since: now.ForModelSince, Service: now.Service,
					PaidInstead: now.PaidInstead.Calls, ChargedForIt: now.PaidInstead.Charged.Float(),
				}
			},
		})
	}
	return list, all.changed
}
