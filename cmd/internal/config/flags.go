package config

import (
	"net"
	"path/filepath"
	"strings"

	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// Flags are start's flags about servers, or their environment variables. Nil and zero
// values are flags that were not set.
type Flags struct {
	Model      string // path of a GGUF to run
	Demo       bool   // run the demo model
	CtxSize    *int
	NGPULayers *int
	GPU        *string  // for every server, instead of the file's
	Args       []string // the arguments after "--"
}

// Apply adds the server that flags define. The other flags override the file's settings:
// those of that server or, without one, those of every server.
func (c *Config) Apply(f Flags) error {
	if err := llamacpp.CheckArgs(f.Args); err != nil {
		return err
	}
	if f.Demo || f.Model != "" {
		name := DemoName
		if !f.Demo {
			name = serverName(f.Model)
		}
		server, ok := c.Servers[name]
		if !ok {
			server = DefaultServer()
		}
		server.Model = f.Model
		if c.Demo = f.Demo; c.Demo {
			server.Model = filepath.Join(c.DemoDir(), "demo.gguf")
			// The model is too small for several threads: on a busy machine they wait
			// for each other.
			server.Args = append(llamacpp.SingleThread(), server.Args...)
		}
		c.Servers[name] = server
		c.FlagServer = name
	}
	if f.GPU != nil {
		c.GPU.Devices = *f.GPU
	}
	for name, server := range c.Servers {
		if f.GPU != nil {
			server.GPU = ""
			c.Servers[name] = server
		}
		if c.FlagServer != "" && name != c.FlagServer || server.IsCommand() {
			continue
		}
		if f.CtxSize != nil {
			server.CtxSize = *f.CtxSize
		}
		if f.NGPULayers != nil {
			server.NGPULayers = *f.NGPULayers
		}
		server.Args = append(append([]string{}, server.Args...), f.Args...)
		c.Servers[name] = server
	}
	return nil
}

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
