package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/config/keyfile"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/supervisor/llamacpp"
)

// validName matches names of servers and upstreams, which become part of paths, headers
// and metrics.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Validate checks everything that does not depend on the content of models' files.
// Resolve calls it, too. Calling it earlier avoids errors about files with wrong names.
func (c *Config) Validate() error {
	if err := checkListen(c.Listen); err != nil {
		return c.positions.ifText(c.Listen, "listen").errorf([]string{"listen"}, "%w", err)
	}
	if err := c.absolutePaths(); err != nil {
		return err
	}
	if err := c.validateLog(); err != nil {
		return err
	}
	if err := c.validateGPU(); err != nil {
		return err
	}
	if err := c.validateAccess(); err != nil {
		return err
	}
	// Sorted, so that of several mistakes always the same one is reported.
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		if err := c.validateServer(name, c.Servers[name]); err != nil {
			return err
		}
	}
	if err := c.validateDefault(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		if err := c.validateUpstream(name, c.Upstreams[name]); err != nil {
			return err
		}
	}
	if key, err := c.TLS.Validate(); err != nil {
		return c.positions.errorf([]string{"tls", key}, "%w", err)
	}
	if err := c.validateFleet(); err != nil {
		return err
	}
	return c.validateAccounting()
}

func (c *Config) validateFleet() error {
	for _, file := range []struct{ key, path string }{
		{"ca_file", c.Fleet.CAFile}, {"credentials_file", c.Fleet.CredentialsFile}, {"key_file", c.Fleet.KeyFile},
	} {
		if err := keyfile.Check(file.path); err != nil && file.path != "" {
			return c.positions.errorf([]string{"fleet", file.key}, "%w", err)
		}
	}
	if key, err := c.Fleet.Validate(); err != nil {
		return c.positions.errorf([]string{"fleet", key}, "%w", err)
	}
	if c.TLS.Enabled() && strings.HasPrefix(strings.ToLower(c.Fleet.Advertise), "http:") {
		return c.positions.errorf([]string{"fleet", "advertise"}, "begins with http://, but this box speaks HTTPS, since tls is set; write https://")
	}
	return nil
}

func (c *Config) absolutePaths() error {
	for _, setting := range []struct {
		key  string
		path *string
	}{{"state_dir", &c.StateDir}, {"control_socket", &c.ControlSocket}} {
		key, path := setting.key, setting.path
		at := c.positions.ifText(*path, key)
		if *path == "" {
			return at.errorf([]string{key}, "is empty; set a path")
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return at.errorf([]string{key}, "%w", err)
		}
		*path = absolute
	}
	return nil
}

// The values of log_format and log_level.
var (
	logFormats = []string{"auto", "console", "json"}
	logLevels  = []string{"trace", "debug", "info", "warn", "error"}
)

func (c *Config) validateLog() error {
	for _, setting := range []struct {
		key, value string
		known      []string
	}{{"log_format", c.LogFormat, logFormats}, {"log_level", c.LogLevel, logLevels}} {
		if !slices.Contains(setting.known, setting.value) {
			return c.positions.ifText(setting.value, setting.key).errorf([]string{setting.key}, "%q is none of %s", setting.value, strings.Join(setting.known, ", "))
		}
	}
	return nil
}

func (c *Config) validateServer(name string, s Server) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"servers", name, field}, format, args...)
	}
	number := func(field string, n int, of string) error {
		path := []string{"servers", name, field}
		return c.positions.ifText(strconv.Itoa(n), path...).errorf(path, "%d is not a number of %s", n, of)
	}
	_, isUpstream := c.Upstreams[name]
	switch {
	case checkRef(s.Model) != nil: // first: the name may come from it
		return at("model", "%w", checkRef(s.Model))
	case !validName.MatchString(name):
		return c.positions.errorf([]string{"servers", name}, "a server's name has at most 100 letters, digits, dots, dashes and underscores; rename it, or the model's file")
	case isUpstream:
		return c.positions.errorf([]string{"servers", name}, "an upstream has the same name; rename one of them")
	case s.Model == "" && !s.IsCommand():
		return at("model", "is missing; set the path of the GGUF file, or `command` for another engine than llama-server")
	case s.IsCommand():
	case s.CtxSize < 1 || s.CtxSize > maxInt32:
		return number("ctx_size", s.CtxSize, "tokens; the default is 8192")
	case s.NGPULayers < 0 || s.NGPULayers > maxInt32:
		return number("n_gpu_layers", s.NGPULayers, "layers; 99 means all, 0 none")
	}
	for _, timeout := range []struct {
		field string
		value time.Duration
	}{{"load_timeout", s.LoadTimeout}, {"stall_timeout", s.StallTimeout}} {
		if timeout.value != 0 && (timeout.value < time.Second || timeout.value > maxTimeout) {
			return at(timeout.field, "%s is not between 1s and 24h", timeout.value)
		}
	}
	if !ValidDevices(s.GPU) {
		return at("gpu", "%s is not a GPU; use an index or a UUID of nvidia-smi, several separated by commas, or none", QuoteSafe(s.GPU))
	}
	if err := llamacpp.CheckArgs(s.Args); err != nil {
		return at("args", "%w", err)
	}
	if err := c.validateCommand(name, s); err != nil {
		return err
	}
	return c.validateOnDemand(name, s)
}

// checkRef checks a model that is to be downloaded.
func checkRef(model string) error {
	if !hub.IsRef(model) {
		return nil
	}
	ref, err := hub.ParseRef(model)
	if err == nil && strings.Contains(ref.URL, "?") {
		return errors.New("the URL has a query, which may be secret or expire; download the file with llmsup pull, and set its path")
	}
	return err
}

// validateDefault checks that at most one server is the default.
func (c *Config) validateDefault() error {
	first := ""
	for _, name := range c.positions.keys("servers") {
		switch {
		case !c.Servers[name].Default:
		case first != "":
			return c.positions.errorf([]string{"servers", name, "default"}, "the server %s is the default already; set it for only one server", first)
		default:
			first = name
		}
	}
	return nil
}

func (c *Config) validateUpstream(name string, u models.Upstream) error {
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"upstreams", name, field}, format, args...)
	}
	if !validName.MatchString(name) {
		return c.positions.errorf([]string{"upstreams", name}, "an upstream's name has at most 100 letters, digits, dots, dashes and underscores")
	}
	if u.BaseURL == "" {
		return at("base_url", "is missing; set the base URL as for an OpenAI SDK (example: https://openrouter.ai/api/v1)")
	}
	if err := checkURL(u.BaseURL); err != nil {
		return at("base_url", "%w", err)
	}
	for field, value := range map[string]string{"http_referer": u.Referer, "x_title": u.Title} {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return at(field, "is sent as a header, which can contain only printable ASCII")
		}
	}
	if u.APIKeyEnv != "" && u.APIKeyFile != "" {
		return at("api_key_file", "api_key_env is also set; remove one of them")
	}
	if err := keyfile.Check(u.APIKeyFile); err != nil && u.APIKeyFile != "" {
		return at("api_key_file", "%w", err)
	}
	if u.APIKeyEnv != "" && !validEnv.MatchString(u.APIKeyEnv) {
		return at("api_key_env", "takes the name of an environment variable in capitals, not the key itself")
	}
	if u.Billing != "" && u.Billing != models.Metered && u.Billing != models.Free {
		return at("billing", "%s is neither metered nor free", QuoteSafe(string(u.Billing)))
	}
	return nil
}

// maxInt32 is the largest number in llama-server's flags.
const maxInt32 = 1<<31 - 1

// QuoteSafe quotes a word of the file, unless it may be a key that was pasted in the
// wrong place.
func QuoteSafe(word string) string {
	if mayBeKey(word) || len(word) > 40 {
		return "(not repeated, it may be a key)"
	}
	return strconv.Quote(word)
}

func mayBeKey(word string) bool {
	if strings.HasPrefix(word, clientKeyPrefix) && len(word) > len(clientKeyPrefix)+20 { // llmsup-2 is not a key
		return true
	}
	word = strings.ToLower(word)
	return slices.ContainsFunc([]string{"sk-", "sk_", "gsk_"}, func(prefix string) bool { return strings.HasPrefix(word, prefix) })
}

// validEnv matches names of environment variables. Clients see the name if the key is
// missing, so it must not match a key (gsk_..., sk-...): lower case is far more common in
// keys than in names of variables.
var validEnv = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,99}$`)

func isURL(s string) bool { return strings.Contains(s, "://") }

// checkURL does not repeat the URL, which may contain a key.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("is not a URL (example: https://openrouter.ai/api/v1)")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has a user, a query or a fragment; use the plain base URL, and put the key into api_key_env")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("is not a base URL (example: https://openrouter.ai/api/v1)")
	}
	return nil
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT (example: 127.0.0.1:8000)", address)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	return nil
}

// KeyVariables returns the environment variables with upstreams' keys. No process that
// llmsup starts may see them.
func (c *Config) KeyVariables() []string {
	var names []string
	for _, u := range c.Upstreams {
		if u.APIKeyEnv != "" {
			names = append(names, u.APIKeyEnv)
		}
	}
	return names
}
