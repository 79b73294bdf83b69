package config

import (
	"path/filepath"

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
