package config

import (
	"net"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/net/publicsuffix"

	"github.com/llmsup/llmsup/router/access"
)

const (
	maxConnections = 1 << 20
	minBodyTimeout = time.Second

	maxShutdownGrace = time.Hour
)

// Page configures the web page.
type Page struct {
	Enabled bool `yaml:"enabled"` // it is served under /ui/
}

// Loopback reports whether only this machine can reach the endpoint. Host names other
// than localhost count as reachable.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	return err == nil && (strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback())
}

// Unauthenticated reports whether other machines can call without a key.
func (c *Config) Unauthenticated() bool {
	return !c.Loopback() && len(c.Keys) == 0 && !c.AwaitsKeys()
}

// CheckHost reports whether the Host header of calls is checked. The check rejects web
// pages that rebind their own name to this machine's address. Such pages have no key, so
// with keys there is a check only if the operator lists hosts.
func (c *Config) CheckHost() bool {
	return !slices.Contains(c.AllowedHosts, "*") && (len(c.Keys) == 0 && !c.AwaitsKeys() || len(c.AllowedHosts) > 0)
}

// Origins are patterns of web pages, as access.ParseOrigin reads them.
type Origins []string

// UnmarshalYAML reads a list. The library drops a null from a list of strings, but here it
// is a word that lacks its quotes.
func (o *Origins) UnmarshalYAML(node *yaml.Node) error {
	var list []*string
	if err := node.Decode(&list); err != nil {
		return err
	}
	*o = Origins{}
	for _, text := range list {
		if text == nil {
			text = new(string)
		}
		*o = append(*o, *text)
	}
	return nil
}

// AnyPage reports whether everyone can make a page that may call: any page may have a
// sandbox, whose origin is "null", and everyone can register a name below a public suffix,
// such as "com" or "github.io".
func (o Origins) AnyPage() bool {
	return slices.ContainsFunc(o, func(origin string) bool {
		if origin == "*" || origin == "null" {
			return true
		}
		_, domain, wild := strings.Cut(origin, "://*.")
		domain, _, _ = strings.Cut(domain, ":")
		suffix, ofICANN := publicsuffix.PublicSuffix(domain)
		listed := ofICANN || strings.Contains(suffix, ".") // a name without a rule has its last label as suffix
		return wild && listed && suffix == domain
	})
}

func (c *Config) validateAccess() error {
	if err := c.ValidateKeys(); err != nil {
		return err
	}
	if c.Unauthenticated() && !c.InsecureNoAuth {
		return c.positions.ifText(c.Listen, "listen").errorf([]string{"listen"},
			"other machines can reach %q, and there are no keys: add the lines of \"llmsup key new NAME\" to llmsup.yaml, or pass --insecure-no-auth to allow unauthenticated calls", c.Listen)
	}
	switch {
	case c.MaxConnections < 1 || c.MaxConnections > maxConnections:
		return c.positions.errorf([]string{"max_connections"}, "%d is not between 1 and %d", c.MaxConnections, maxConnections)
	case c.ShutdownGrace != 0 && (c.ShutdownGrace < minTimeout || c.ShutdownGrace > maxShutdownGrace):
		return c.positions.errorf([]string{"shutdown_grace"}, "%s is neither 0s nor between 100ms and 1h", c.ShutdownGrace)
	case c.BodyTimeout < minBodyTimeout || c.BodyTimeout > maxTimeout:
		return c.positions.errorf([]string{"body_timeout"}, "%s is not between 1s and 24h", c.BodyTimeout)
	}
	for i, text := range c.AllowedOrigins {
		origin, ok := access.ParseOrigin(text)
		if !ok {
			return c.positions.errorf([]string{"allowed_origins"}, "number %d is not an origin (examples: https://app.example.com, https://*.example.com, http://localhost:*, \"null\" in quotes, or \"*\" for all)", i+1)
		}
		c.AllowedOrigins[i] = origin
	}
	for i, host := range c.AllowedHosts {
		if host == "" || strings.ContainsAny(host, " \t\r\n/:[]@") || strings.Contains(host, "*") && host != "*" {
			return c.positions.errorf([]string{"allowed_hosts"}, "number %d is not a host name without a port (example: llm.example.com, or \"*\" for all)", i+1)
		}
		c.AllowedHosts[i] = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	return nil
}
