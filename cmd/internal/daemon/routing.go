package daemon

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
	"github.com/llmsup/llmsup/cmd/internal/readiness"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/access"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/request"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// routing returns the router's configuration.
func (d *Daemon) routing(c *config.Config, servers []*managedServer) (plan.Config, error) {
	table, err := models.NewTable(c.Routes)
	if err != nil {
		return plan.Config{}, err
	}
	cfg := plan.Config{Table: table, Bodies: request.Limits{Bytes: int64(c.MaxBody), Dir: c.StateDir}, Access: accessPolicy(c), Locals: map[string]backend.Local{}, Accounting: d.accounting.ForRouter(), Catalog: d.accounting.Prices, Engine: llamacpp.Engine{}.Capabilities(nil)}
	if c.Fleet.Enabled() {
		cfg.Boxes = &d.otherBoxes
	}
	for _, s := range servers {
		if !s.removed {
			cfg.Locals[s.name] = readiness.Adapter{Server: s.server, Capabilities: &s.capabilities, Demand: s.demand, Owner: d.ondemand}
		}
	}
	for _, name := range sortedKeys(c.Upstreams) {
		u := c.Upstreams[name]
		key, missing, err := keyfile.Read(u)
		if err != nil {
			return plan.Config{}, fmt.Errorf("upstream %s: %w", name, err)
		}
		if missing != "" {
			d.log.Warn().Str("upstream", name).Msg("the upstream has no key, so no call can go there; " + missing)
			if u.APIKeyFile != "" {
				missing = "its api_key_file is missing or empty" // clients must not see its path
			}
		}
		if warning := keyfile.Warning(u); warning != "" {
			d.log.Warn().Str("upstream", name).Msg(warning)
		}
		cfg.Upstreams = append(cfg.Upstreams, backend.UpstreamConfig{
			Name: name, BaseURL: u.BaseURL, Key: key, Missing: missing, Billing: u.BillingWith(key != ""), Referer: u.Referer, Title: u.Title,
		})
	}
	return cfg, nil
}

// accessPolicy returns the configured access policy of the router.
func accessPolicy(c *config.Config) access.Policy {
	d := access.Policy{
		AwaitsKeys: c.AwaitsKeys(), Origins: c.AllowedOrigins, BodyTimeout: c.BodyTimeout,
		CheckHost: c.CheckHost(), Hosts: slices.Clone(c.AllowedHosts), AnyIP: !c.Loopback(),
	}
	for _, name := range sortedKeys(c.Keys) {
		k := c.Keys[name]
		d.Keys = append(d.Keys, access.Key{Name: name, SHA256: k.Hash(), Routes: k.Routes, FreeOnly: k.Free(), Operator: k.Operator})
	}
	if !c.Loopback() {
		d.Hosts = append(d.Hosts, ownHosts(c.Listen)...)
	}
	return d
}

// ownHosts returns the host names of this machine: its own, with and without its domain,
// and the one of the listen address.
func ownHosts(listen string) []string {
	var names []string
	if name, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(name, ".")
		names = append(names, strings.ToLower(name), strings.ToLower(short))
	}
	host := listen[:strings.LastIndex(listen, ":")]
	return append(names, strings.ToLower(host))
}
