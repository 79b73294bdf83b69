// Package config is llmsup's configuration: defaults, overridden by llmsup.yaml,
// overridden by flags and their environment variables. cmd/llmsup loads it and passes it
// to the daemon. It never starts anything and never contacts an upstream.
//
// Call Default or Load, then Apply, then Resolve. A configuration is complete and valid
// once Resolve has accepted it.
package config

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/certificate"
	"github.com/llmsup/llmsup/cmd/internal/config/paths"
	"github.com/llmsup/llmsup/cmd/internal/config/units"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/models/hub"
	"github.com/llmsup/llmsup/models/vram"
)

// Config has all settings of an operator.
type Config struct {
	Listen        string                     `yaml:"listen"`         // host:port of the endpoint
	MaxBody       units.ByteSize             `yaml:"max_body"`       // of a request
	LlamaServer   string                     `yaml:"llama_server"`   // path; "" = as llamacpp.FindBinary finds it
	StateDir      string                     `yaml:"state_dir"`      // directory, for one daemon
	ControlSocket string                     `yaml:"control_socket"` // path
	LogFormat     string                     `yaml:"log_format"`     // auto, console or json
	LogLevel      string                     `yaml:"log_level"`      // debug, info, warn or error
	Servers       map[string]Server          `yaml:"servers"`        // processes that llmsup runs
	Upstreams     map[string]models.Upstream `yaml:"upstreams"`      // endpoints that llmsup does not run
	Routes        map[string]models.Route    `yaml:"routes"`         // by exact name or pattern
	GPU           GPU                        `yaml:"gpu"`

	Ledger Ledger                            `yaml:"ledger"`
	Budget Budget                            `yaml:"budget"`
	Prices map[string]map[string]ModelPrices `yaml:"prices"` // by upstream and by the model's name there; they override its own list

	Keys           map[string]ClientKey `yaml:"keys"`             // of clients; none = calls need no key
	InsecureNoAuth bool                 `yaml:"insecure_no_auth"` // allow other machines to call without a key
	AllowedOrigins Origins              `yaml:"allowed_origins"`  // of web pages that are allowed to call
	AllowedHosts   []string             `yaml:"allowed_hosts"`    // more names of the endpoint in a Host header; "*" = any
	MaxConnections int                  `yaml:"max_connections"`  // at once; more wait
	BodyTimeout    time.Duration        `yaml:"body_timeout"`     // for a request's body to arrive
	ShutdownGrace  time.Duration        `yaml:"shutdown_grace"`   // for running calls when llmsup stops
	Page           Page                 `yaml:"page"`
	TLS            certificate.Settings `yaml:"tls"`
	Fleet          fleet.Settings       `yaml:"fleet"`

	Shared      *Shared              `yaml:"-"` // what the fleet defines; nil = nothing
	FleetBudget Budget               `yaml:"-"` // of all boxes together, from Shared
	ownKeys     map[string]ClientKey // of File, in use or not
	ownRoutes   map[string]models.Route

	FlagServer string `yaml:"-"` // the server that flags define; "" = none
	Demo       bool   `yaml:"-"` // FlagServer runs the demo model, which is generated in DemoDir
	File       string `yaml:"-"` // path of llmsup.yaml; "" = none
	Text       []byte `yaml:"-"` // of File

	IgnoredListen string `yaml:"-"` // the configured Listen, if systemd passed a socket at another address

	positions positions // of the settings in File, for errors
}

// Server is a process that llmsup runs: llama-server with a model, or another engine.
type Server struct {
	Command `yaml:",inline"`

	Model      string   `yaml:"model"`        // path of the GGUF, or what to download, as in Ref; "" = Argv is set
	CtxSize    int      `yaml:"ctx_size"`     // tokens, for all slots together
	NGPULayers int      `yaml:"n_gpu_layers"` // layers to keep in VRAM
	Args       []string `yaml:"args"`         // further flags of llama-server
	GPU        string   `yaml:"gpu"`          // devices, as GPU.Devices; "" = those
	Default    bool     `yaml:"default"`      // "local" is this server, unless flags define one

	Load       string         `yaml:"load"`        // LoadAlways or LoadOnDemand; "" = LoadAlways
	IdleUnload time.Duration  `yaml:"idle_unload"` // on demand: unloaded after this time without a call; 0 = never
	Pinned     bool           `yaml:"pinned"`      // on demand: once loaded, it is never evicted for another model
	VRAM       units.ByteSize `yaml:"vram"`        // that the model is assumed to need; 0 = as estimated

	LoadTimeout  time.Duration `yaml:"load_timeout"`  // without any progress in loading; 0 = 120 s
	StallTimeout time.Duration `yaml:"stall_timeout"` // without output or progress once ready; 0 = 30 s
}

// Ref returns what is downloaded as the server's model, as hub.Ref.String has it; "" = the model
// is a file.
func (s Server) Ref() string {
	if ref, err := hub.ParseRef(s.Model); err == nil {
		return ref.String()
	}
	return ""
}

// Run returns how a llama-server that this process starts runs the server's model.
func (s Server) Run() vram.Run {
	return vram.Run{CtxSize: s.CtxSize, GPULayers: s.NGPULayers, Args: s.Args, Variable: vram.EnvironmentSetting(os.Environ())}
}

// ServersOf returns the servers whose model a reference is, by name; ref is as hub.Ref.String has it.
func (c *Config) ServersOf(ref string) (servers []Server) {
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		if s := c.Servers[name]; s.Ref() == ref {
			servers = append(servers, s)
		}
	}
	return servers
}

// serverName derives a server's name from its model: from the file's name, or from the
// repository's (hf:Qwen/Qwen2.5-14B-Instruct-GGUF:Q4_K_M -> qwen2.5-14b-instruct).
func serverName(model string) string {
	ref, err := hub.ParseRef(model)
	switch {
	case err != nil:
		return models.ServerName(model)
	case ref.URL != "" || ref.File != "":
		return models.ServerName(cmp.Or(ref.File, ref.URL))
	}
	return models.ServerName(ggufSuffix.ReplaceAllString(ref.Repo, ""))
}

// ggufSuffix is how publishers mark repositories of GGUF files.
var ggufSuffix = regexp.MustCompile(`(?i)[-_.]gguf$`)

// GPU selects the GPUs, and the thresholds at which a GPU's condition degrades a server.
type GPU struct {
	Devices     string         `yaml:"devices"`      // indexes of nvidia-smi or UUIDs, separated by commas, or "none"; "" = all
	Fit         string         `yaml:"fit"`          // FitWait until a model fits the free VRAM, or FitIgnore
	BadSamples  int            `yaml:"bad_samples"`  // in a row, one per second, until a server is degraded
	GoodSamples int            `yaml:"good_samples"` // in a row, until it no longer is
	VRAMFloor   units.ByteSize `yaml:"vram_floor"`   // free VRAM below which growing foreign processes count
	BusyPercent int            `yaml:"busy_percent"` // utilisation that counts as busy, without a call of llmsup's
	BusyFor     time.Duration  `yaml:"busy_for"`     // time at BusyPercent until a GPU is busy
}

// The values of GPU.Fit.
const (
	FitWait   = "wait"
	FitIgnore = "ignore"
)

const (
	// DemoName is the server that --demo starts.
	DemoName = "demo"
	// openRouter is the fallback of the built-in routes.
	openRouter = "openrouter"

	localTimeout = 60 * time.Second
	cloudTimeout = 120 * time.Second
)

// DefaultServer returns a server for which the file sets nothing.
func DefaultServer() Server {
	return Server{CtxSize: 8192, NGPULayers: 99, IdleUnload: 15 * time.Minute}
}

// Default returns the configuration without a file and without flags.
func Default() Config {
	built := models.LoadBuiltin()
	return Config{
		Listen: "127.0.0.1:8000", MaxBody: 32 << 20,
		StateDir: paths.StateDir(), ControlSocket: paths.ControlSocket(),
		LogFormat: "auto", LogLevel: "info",
		MaxConnections: 4096, BodyTimeout: time.Minute, ShutdownGrace: 30 * time.Second,
		Page:    Page{Enabled: true},
		Ledger:  Ledger{Enabled: true, Keep: units.Duration(400 * 24 * time.Hour)},
		GPU:     GPU{Fit: FitWait, BadSamples: 3, GoodSamples: 10, VRAMFloor: 256 << 20, BusyPercent: 95, BusyFor: 10 * time.Second},
		Servers: map[string]Server{}, Upstreams: built.Upstreams, Routes: built.Routes,
	}
}

// DemoDir returns the directory in which the demo model is generated.
func (c *Config) DemoDir() string { return filepath.Join(c.StateDir, DemoName) }

// ModelsDir returns the directory for models that no server needs yet.
func (c *Config) ModelsDir() string { return filepath.Join(c.StateDir, "models") }

// Table returns the routing table. Call Resolve first.
func (c *Config) Table() (*models.Table, error) { return models.NewTable(c.Routes) }
