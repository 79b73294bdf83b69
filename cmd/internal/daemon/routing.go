package daemon

import (
	"fmt"
	"maps"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router"
)

// routing returns the router's configuration.
func (d *Daemon) routing(c *config.Config, fleet []*managedServer) (router.Config, error) {
	table, err := models.NewTable(firstFallbacks(c.Routes))
	if err != nil {
		return router.Config{}, err
	}
	cfg := router.Config{Table: table, MaxBody: int64(c.MaxBody), Access: accessPolicy(c), Locals: map[string]router.Local{}, Accounting: d.accounting.ForRouter(), Catalog: d.accounting.Prices, Fields: engine.Capabilities(nil).Fields}
	for _, s := range fleet {
		if !s.removed {
			cfg.Locals[s.name] = routerAdapter{s.server, s.lifetime}
		}
	}
	for _, name := range sortedKeys(c.Upstreams) {
		u := c.Upstreams[name]
		key, missing, err := config.UpstreamKey(u)
		if err != nil {
			return router.Config{}, fmt.Errorf("upstream %s: %w", name, err)
		}
		if missing != "" {
			d.log.Warn().Str("upstream", name).Msg("the upstream has no key, so no call can go there; " + missing)
			if u.APIKeyFile != "" {
				missing = "its api_key_file is missing or empty" // clients must not see its path
			}
		}
		if warning := config.KeyFileWarning(u); warning != "" {
			d.log.Warn().Str("upstream", name).Msg(warning)
		}
		cfg.Upstreams = append(cfg.Upstreams, router.Upstream{
			Name: name, BaseURL: u.BaseURL, Key: key, Missing: missing, Billing: u.BillingWith(key != ""), Referer: u.Referer, Title: u.Title,
		})
	}
	return cfg, nil
}

// firstFallbacks leaves each route one fallback, the first of its list: the
// router tries no more than one.
func firstFallbacks(routes map[string]models.Route) map[string]models.Route {
	routes = maps.Clone(routes)
	for name, route := range routes {
		if list := route.FallbackList(); len(list) > 0 {
			route.Fallback, route.FallbackModel = list[0].To, list[0].Model
			routes[name] = route
		}
	}
	return routes
}
