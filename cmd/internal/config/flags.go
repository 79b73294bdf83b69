package config

import (
	"path/filepath"

	"github.com/llmsup/llmsup/models"
)

// Flags is what start's flags, or their environment variables, say about
// servers. Nil and zero values are flags that were not set.
type Flags struct {
	Model      string // path of a GGUF to run
	Demo       bool   // run the demo model
	CtxSize    *int
	NGPULayers *int
	GPU        *string  // for every server, whatever the file says
	Args       []string // what stands after "--"
}

// Apply adds the server that flags start, and lets the other flags win over the
// file: over the started server's settings, or, where none is started, over
// every server's.
func (c *Config) Apply(f Flags) error {
	if err := CheckArgs(f.Args); err != nil {
		return err
	}
	if f.Demo || f.Model != "" {
		name := DemoName
		if !f.Demo {
			name = models.ServerName(f.Model)
		}
		server, ok := c.Servers[name]
		if !ok {
			server = defaultServer()
		}
		server.Model = f.Model
		if c.Demo = f.Demo; c.Demo {
			server.Model = filepath.Join(c.DemoDir(), "demo.gguf")
			// It is too small for more: on a busy machine several threads spend
			// their time waiting for each other.
			server.Args = append([]string{"--threads", "1"}, server.Args...)
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
		if c.FlagServer != "" && name != c.FlagServer {
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
