package daemon

import (
	"fmt"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// routing returns the router's configuration.
func (d *Daemon) routing(c *config.Config, fleet []*managedServer) (plan.Config, error) {
	table, err := models.NewTable(c.Routes)
	if err != nil {
		return plan.Config{}, err
	}
	cfg := plan.Config{Table: table, Bodies: request.Limits{Bytes: int64(c.MaxBody), Dir: c.StateDir}, Access: accessPolicy(c), Locals: map[string]backend.Local{}, Accounting: d.accounting.ForRouter(), Catalog: d.accounting.Prices, Engine: llamacpp.Engine{}.Capabilities(nil)}
	for _, s := range fleet {
		if !s.removed {
			cfg.Locals[s.name] = routerAdapter{s.server, s.lifetime, d.ondemand}
		}
	}
	for _, name := range sortedKeys(c.Upstreams) {
		u := c.Upstreams[name]
		key, missing, err := config.UpstreamKey(u)
		if err != nil {
			return plan.Config{}, fmt.Errorf("upstream %s: %w", name, err)
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
		cfg.Upstreams = append(cfg.Upstreams, backend.UpstreamConfig{
			Name: name, BaseURL: u.BaseURL, Key: key, Missing: missing, Billing: u.BillingWith(key != ""), Referer: u.Referer, Title: u.Title,
		})
	}
	return cfg, nil
}
