package config

import (
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	maxConnections = 1 << 20
	minBodyTimeout = time.Second

	maxShutdownGrace = time.Hour
)

// Loopback reports whether only this machine can reach the endpoint. Host names other
// than localhost count as reachable.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	return err == nil && (strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback())
}

// Unauthenticated reports whether other machines can call without a key.
func (c *Config) Unauthenticated() bool { return !c.Loopback() && len(c.Keys) == 0 }

// CheckHost reports whether the Host header of calls is checked. The check rejects web
// pages that rebind their own name to this machine's address. Such pages have no key, so
// with keys there is a check only if the operator lists hosts.
func (c *Config) CheckHost() bool {
	return !slices.Contains(c.AllowedHosts, "*") && (len(c.Keys) == 0 || len(c.AllowedHosts) > 0)
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
		origin, ok := asOrigin(text)
		if !ok {
			return c.positions.errorf([]string{"allowed_origins"}, "number %d is not an origin (examples: https://app.example.com, http://localhost:3000, or \"*\" for all)", i+1)
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

// asOrigin returns an origin as browsers write it: in lower case, and without the default
// port of its scheme.
func asOrigin(text string) (string, bool) {
	if text == "*" {
		return text, true
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.Contains(u.Host, "*") {
		return "", false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, true
}
