package config

import (
	"net"
	"strings"
)

// ListenOn puts the address of a socket that systemd has passed in the place of
// what file, environment and flags say: the socket is there, and all that
// follows from who can reach it follows from its own address. asked says that
// the environment or a flag named one.
func (c *Config) ListenOn(address string, asked bool) {
	if (asked || c.positions.has("listen")) && !sameAddress(c.Listen, address) {
		c.IgnoredListen = c.Listen
	}
	c.Listen = address
}

// sameAddress says whether an address as it was written is that of a socket.
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
