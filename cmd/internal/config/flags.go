package config

import (
	"fmt"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// Flags is what start's flags, or their environment variables, say about
// servers. Nil and zero values are flags that were not set.
type Flags struct {
	Model      string // path of a GGUF to run
	Demo       bool   // run the demo model
	CtxSize    *int
	NGPULayers *int
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
		c.Servers[name] = server
		c.Started = name
	}
	for name, server := range c.Servers {
		if c.Started != "" && name != c.Started {
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

// ownedArgs are the flags of llama-server that llmsup sets or that would keep
// it from serving, and what to do instead of passing them.
var ownedArgs = map[string]string{
	"--host": "llmsup gives llama-server a place of its own", "--port": "llmsup gives llama-server a place of its own",
	"--reuse-port": "llmsup gives llama-server a place of its own", "--api-prefix": "llmsup has to find llama-server's paths",
	"--model": "pass --model to llmsup, or set `model`", "-m": "pass --model to llmsup, or set `model`",
	"--alias": "llmsup names the server itself", "-a": "llmsup names the server itself",
	"--ctx-size": "pass --ctx-size to llmsup, or set `ctx_size`", "-c": "pass --ctx-size to llmsup, or set `ctx_size`",
	"--n-gpu-layers": "pass --n-gpu-layers to llmsup, or set `n_gpu_layers`",
	"--gpu-layers":   "pass --n-gpu-layers to llmsup, or set `n_gpu_layers`",
	"-ngl":           "pass --n-gpu-layers to llmsup, or set `n_gpu_layers`",
	"--api-key":      "llmsup makes a key for llama-server itself", "--api-key-file": "llmsup makes a key for llama-server itself",
	"--ssl-key-file": "llmsup talks to llama-server without TLS", "--ssl-cert-file": "llmsup talks to llama-server without TLS",
	"--metrics": "llmsup sets it",
	"--help":    "run llama-server by itself for that", "-h": "run llama-server by itself for that", "--usage": "run llama-server by itself for that",
	"--version": "run llama-server by itself for that",
	"-hf":       "llmsup runs a file; download the model first", "-hfr": "llmsup runs a file; download the model first",
	"--hf-repo": "llmsup runs a file; download the model first", "-mu": "llmsup runs a file; download the model first",
	"--model-url": "llmsup runs a file; download the model first",
}

// CheckArgs refuses flags of llama-server that are llmsup's own to set.
func CheckArgs(args []string) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if instead, owned := ownedArgs[name]; owned {
			return fmt.Errorf("llama-server's %s can't be passed on: %s", name, instead)
		}
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("an argument for llama-server has a zero byte in it")
		}
	}
	return nil
}
