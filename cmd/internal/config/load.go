package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile limits a configuration file, in bytes: some thousand routes. The YAML library
// takes time proportional to the square of their number.
const maxFile = 256 << 10

// Load reads llmsup.yaml over the defaults. An unknown or duplicate key, or a value of
// the wrong type, is an error that names file and line. So is a file without any
// setting, which was probably cut off. Resolve checks what depends on flags.
func Load(path string) (*Config, error) {
	raw, err := ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, raw)
	if err == nil && !c.positions.has() {
		return nil, fmt.Errorf("%s: the file has no settings; write {} to use the defaults", path)
	}
	return c, err
}

// ReadFile reads a configuration file.
func ReadFile(path string) ([]byte, error) {
	// Opening a named pipe would wait. A shell's pipe, as in <(...), is in /dev.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() && !strings.HasPrefix(path, "/dev/") {
		return nil, fmt.Errorf("configuration %s: it is not a regular file; pass another file with --config", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, FileError(path, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, FileError(path, err)
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("configuration %s: it is over %d KiB; is that the right file?", path, maxFile>>10)
	}
	return raw, nil
}

// FileError returns the error of a configuration file that cannot be read.
func FileError(path string, err error) error {
	return fmt.Errorf("configuration %s: %w; pass another file with --config", path, rootCause(err))
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// Parse reads the text of a configuration file over the defaults, as Load does.
func Parse(path string, raw []byte) (*Config, error) {
	c := Default()
	c.File, c.Text = path, raw
	built := c // its maps are not changed below
	c.Servers, c.Upstreams, c.Routes = nil, nil, nil

	root, err := decode(path, raw, &c)
	if err != nil {
		return nil, err
	}
	c.positions = positions{file: path, root: root}
	if err := c.completeServers(); err != nil {
		return nil, err
	}
	c.Servers = overlay(map[string]Server{}, c.Servers)
	c.Upstreams = overlay(built.Upstreams, c.Upstreams)
	c.Routes = overlay(built.Routes, c.Routes)
	if err := c.validateLog(); err != nil { // the daemon logs before Resolve
		return nil, err
	}
	return &c, nil
}

// decode reads the text of a file into c, and returns its nodes.
func decode(path string, raw []byte, c *Config) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, explainYAML(path, err)
	}
	var more yaml.Node
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second YAML document begins here; keep one", path, more.Line)
	case !errors.Is(err, io.EOF):
		return nil, explainYAML(path, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return nil, explainYAML(path, err)
	}
	return &root, nil
}

// completeServers sets what the file leaves out of its servers.
func (c *Config) completeServers() error {
	for name, server := range c.Servers {
		for _, field := range []string{"ctx_size", "n_gpu_layers"} {
			at := []string{"servers", name, field}
			if _, value, whole := c.positions.find(at); whole && value.Kind == yaml.ScalarNode && value.Tag != "!!null" && !wholeNumber.MatchString(value.Value) {
				return c.positions.errorf(at, "is not a whole number")
			}
		}
		if !server.IsCommand() && server.CtxSize == 0 && !c.positions.has("servers", name, "ctx_size") {
			server.CtxSize = DefaultServer().CtxSize
		}
		if !server.IsCommand() && server.NGPULayers == 0 && !c.positions.has("servers", name, "n_gpu_layers") {
			server.NGPULayers = DefaultServer().NGPULayers
		}
		if !c.positions.has("servers", name, "idle_unload") {
			server.IdleUnload = DefaultServer().IdleUnload
		}
		c.Servers[name] = server
	}
	return nil
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// overlay returns the built-in entries, with those of the file in place of those of the
// same names.
func overlay[V any](under, over map[string]V) map[string]V {
	all := maps.Clone(under)
	maps.Copy(all, over)
	return all
}
