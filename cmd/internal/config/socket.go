package config

import (
	"net"
	"strings"
)

// ListenOn replaces the configured address by that of a socket that systemd has passed,
// since the checks of who can reach the endpoint must use the real address. asked means
// that the environment or a flag sets an address.
func (c *Config) ListenOn(address string, asked bool) {
	if (asked || c.positions.has("listen")) && !sameAddress(c.Listen, address) {
		c.IgnoredListen = c.Listen
	}
	c.Listen = address
}

// sameAddress reports whether a configured address is that of a socket.
func sameAddress(written, socket string) bool {
	host, port, err := net.SplitHostPort(written)
	ownHost, ownPort, ownErr := net.SplitHostPort(socket)
	if err != nil || ownErr != nil || port != ownPort {
		return false
	}
	own := net.ParseIP(ownHost)
	if own == nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return own.IsLoopback()
	}
	ip := net.ParseIP(host)
	return host == "" && own.IsUnspecified() || ip != nil && (ip.Equal(own) || ip.IsUnspecified() && own.IsUnspecified())
}
