package daemon

import (
	"os"
	"slices"
	"strings"

	"github.com/llmsup/llmsup/cmd/internal/config"
	"github.com/llmsup/llmsup/router/access"
)

// accessPolicy returns the configured access policy of the router.
func accessPolicy(c *config.Config) access.Policy {
	d := access.Policy{
		Origins: c.AllowedOrigins, BodyTimeout: c.BodyTimeout,
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
