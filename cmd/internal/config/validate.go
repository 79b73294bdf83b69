package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/llmsup/llmsup/models"
)

// goodName is what servers and upstreams may be called: it becomes part of
// paths, headers and metrics.
var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (c *Config) validate() error {
	if err := checkListen(c.Listen); err != nil {
		return c.lines.errorf([]string{"listen"}, "%w", err)
	}
	for field, path := range map[string]*string{"state_dir": &c.StateDir, "control_socket": &c.ControlSocket} {
		if *path == "" {
			return c.lines.errorf([]string{field}, "is empty; name a path")
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return c.lines.errorf([]string{field}, "%w", err)
		}
		*path = absolute
	}
	for name, server := range c.Servers {
		if err := c.validateServer(name, server); err != nil {
			return err
		}
	}
	for name, upstream := range c.Upstreams {
		if err := c.validateUpstream(name, upstream); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateServer(name string, s Server) error {
	at := func(field, format string, args ...any) error {
		return c.lines.errorf([]string{"servers", name, field}, format, args...)
	}
	_, isUpstream := c.Upstreams[name]
	switch {
	case !goodName.MatchString(name):
		return c.lines.errorf([]string{"servers", name}, "a server's name is made of letters, digits, dots, dashes and underscores, 100 at most; rename it, or the model's file")
	case isUpstream:
		return c.lines.errorf([]string{"servers", name}, "an upstream has that name too; rename one of them")
	case s.Model == "":
		return at("model", "is missing; name the GGUF file")
	case s.CtxSize < 1:
		return at("ctx_size", "%d is not a number of tokens; the default is 8192", s.CtxSize)
	case s.NGPULayers < 0:
		return at("n_gpu_layers", "%d is not a number of layers; 99 means all, 0 none", s.NGPULayers)
	}
	if err := CheckArgs(s.Args); err != nil {
		return at("args", "%w", err)
	}
	return nil
}

func (c *Config) validateUpstream(name string, u models.Upstream) error {
	at := func(field, format string, args ...any) error {
		return c.lines.errorf([]string{"upstreams", name, field}, format, args...)
	}
	if !goodName.MatchString(name) {
		return c.lines.errorf([]string{"upstreams", name}, "an upstream's name is made of letters, digits, dots, dashes and underscores, 100 at most")
	}
	if u.BaseURL == "" {
		return at("base_url", "is missing; it is what an OpenAI SDK takes, as in https://openrouter.ai/api/v1")
	}
	if err := checkURL(u.BaseURL); err != nil {
		return at("base_url", "%w", err)
	}
	if u.APIKeyEnv != "" && u.APIKeyFile != "" {
		return at("api_key_file", "api_key_env is set too; keep one of them")
	}
	if u.APIKeyEnv != "" && !goodEnv.MatchString(u.APIKeyEnv) {
		return at("api_key_env", "wants the name of an environment variable, not the key itself")
	}
	return nil
}

// goodEnv matches names that a shell can export. A key does not look like one.
var goodEnv = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`)

func isURL(s string) bool { return strings.Contains(s, "://") }

// checkURL does not repeat the URL: there may be a key in it.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is no URL; want one as in https://openrouter.ai/api/v1")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a user, a query or a fragment; want the plain base URL, and the key in api_key_env")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("%q is no base URL; want one as in https://openrouter.ai/api/v1", s)
	}
	return nil
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is no HOST:PORT; want one as in 127.0.0.1:8000", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	return nil
}
