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

// Loopback says whether only this machine can reach the endpoint. A name other
// than localhost may mean anything.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Listen)
	ip := net.ParseIP(host)
	return err == nil && (strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback())
}

// Unauthenticated says whether machines besides this one can call, and need no key.
func (c *Config) Unauthenticated() bool { return !c.Loopback() && len(c.Keys) == 0 }

// CheckHost says whether a call's Host is looked at. It keeps out web pages that
// rebind their own name to this machine's address. They have no key, so with
// keys only an operator who lists his hosts wants it.
func (c *Config) CheckHost() bool {
	return !slices.Contains(c.AllowedHosts, "*") && (len(c.Keys) == 0 || len(c.AllowedHosts) > 0)
}

func (c *Config) validateAccess() error {
	if err := c.ValidateKeys(); err != nil {
		return err
	}
	if c.Unauthenticated() && !c.InsecureNoAuth {
		return c.positions.ifText(c.Listen, "listen").errorf([]string{"listen"},
			"other machines can reach %q, and there are no keys: put the lines of \"llmsup key new NAME\" into llmsup.yaml, or pass --insecure-no-auth to let everybody in", c.Listen)
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
			return c.positions.errorf([]string{"allowed_origins"}, "wants origins, as in https://app.example.com or http://localhost:3000, or \"*\" for all; number %d is none", i+1)
		}
		c.AllowedOrigins[i] = origin
	}
	for i, host := range c.AllowedHosts {
		if host == "" || strings.ContainsAny(host, " \t\r\n/:[]@") || strings.Contains(host, "*") && host != "*" {
			return c.positions.errorf([]string{"allowed_hosts"}, "wants names of this machine without a port, as in llm.example.com, or \"*\" for all; number %d is none", i+1)
		}
		c.AllowedHosts[i] = strings.ToLower(strings.TrimSuffix(host, "."))
	}
	return nil
}

// asOrigin writes an origin as browsers do: in lower case, and without the port
// that its scheme has anyway.
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
