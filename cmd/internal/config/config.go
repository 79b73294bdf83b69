// Package config is what llmsup is told: defaults, llmsup.yaml on top of them,
// flags and their environment variables on top of that. cmd/llmsup puts them
// together and hands the result to the daemon.
//
// The order of use is Default or Load, Apply, Resolve; only what Resolve has
// accepted is complete and valid.
package config

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/llmsup/llmsup/models"
)

// Config is everything that an operator decides.
type Config struct {
	Listen        string                     `yaml:"listen"`         // host:port of the endpoint
	MaxBody       ByteSize                   `yaml:"max_body"`       // of a request
	LlamaServer   string                     `yaml:"llama_server"`   // path; "" = see supervisor.FindBinary
	StateDir      string                     `yaml:"state_dir"`      // folder, one daemon each
	ControlSocket string                     `yaml:"control_socket"` // path
	LogFormat     string                     `yaml:"log_format"`     // auto, console or json
	LogLevel      string                     `yaml:"log_level"`      // debug, info, warn or error
	Servers       map[string]Server          `yaml:"servers"`        // llama-server processes that llmsup runs
	Upstreams     map[string]models.Upstream `yaml:"upstreams"`      // endpoints that somebody else runs
	Routes        map[string]models.Route    `yaml:"routes"`         // by exact name or pattern
	GPU           GPU                        `yaml:"gpu"`

	Ledger Ledger                            `yaml:"ledger"`
	Budget Budget                            `yaml:"budget"`
	Prices map[string]map[string]ModelPrices `yaml:"prices"` // by upstream and by the model's name there; they go before what it lists itself

	Keys           map[string]ClientKey `yaml:"keys"`             // of callers; none = a call needs no key
	InsecureNoAuth bool                 `yaml:"insecure_no_auth"` // other machines may call without one
	AllowedOrigins []string             `yaml:"allowed_origins"`  // of web pages that may call; "*" = all
	AllowedHosts   []string             `yaml:"allowed_hosts"`    // more names by which the endpoint is called; "*" = any
	MaxConnections int                  `yaml:"max_connections"`  // at once; more wait
	BodyTimeout    time.Duration        `yaml:"body_timeout"`     // in which a request's body has to arrive
	ShutdownGrace  time.Duration        `yaml:"shutdown_grace"`   // that calls have to end when llmsup stops

	FlagServer string `yaml:"-"` // the server that flags started; "" = none
	Demo       bool   `yaml:"-"` // that server runs the demo model, which is made in DemoDir
	File       string `yaml:"-"` // where it was read from; "" = no file

	IgnoredListen string `yaml:"-"` // what Listen would be, had systemd not passed a socket at another address; "" = nothing

	positions positions // where in File things stand, for errors
}

// Server is a llama-server process that llmsup runs.
type Server struct {
	Model      string   `yaml:"model"`        // path of the GGUF
	CtxSize    int      `yaml:"ctx_size"`     // tokens, for all slots together
	NGPULayers int      `yaml:"n_gpu_layers"` // layers to keep in VRAM
	Args       []string `yaml:"args"`         // more flags of llama-server
	GPU        string   `yaml:"gpu"`          // to run on, as GPU.Devices; "" = what that says
	Default    bool     `yaml:"default"`      // "local" means this server, if flags started none

	LoadTimeout  time.Duration `yaml:"load_timeout"`  // without any progress in loading; 0 = 120 s
	StallTimeout time.Duration `yaml:"stall_timeout"` // without any sign of life once ready; 0 = 30 s
}

// GPU says which GPUs to use, and when what the driver tells of them is held
// against a server.
type GPU struct {
	Devices     string        `yaml:"devices"`      // indexes of nvidia-smi or UUIDs, with commas between, or "none"; "" = all
	Fit         string        `yaml:"fit"`          // "wait" until a model fits the free VRAM, or "ignore" it
	BadSamples  int           `yaml:"bad_samples"`  // in a row, one a second, until a server is degraded
	GoodSamples int           `yaml:"good_samples"` // until it is no longer
	VRAMFloor   ByteSize      `yaml:"vram_floor"`   // free VRAM below which it matters that others grow
	BusyPercent int           `yaml:"busy_percent"` // utilisation that is full, without a call of ours
	BusyFor     time.Duration `yaml:"busy_for"`     // for so long
}

// What GPU.Fit may be.
const (
	FitWait   = "wait"
	FitIgnore = "ignore"
)

const (
	// DemoName is the server that --demo starts.
	DemoName = "demo"
	// openRouter is the upstream that the built-in table falls back on.
	openRouter = "openrouter"

	localTimeout = 60 * time.Second
	cloudTimeout = 120 * time.Second
)

func defaultServer() Server { return Server{CtxSize: 8192, NGPULayers: 99} }

// Default returns what holds without a file and without flags.
func Default() Config {
	built := models.LoadBuiltin()
	return Config{
		Listen: "127.0.0.1:8000", MaxBody: 32 << 20,
		StateDir: DefaultStateDir(), ControlSocket: DefaultControlSocket(),
		LogFormat: "auto", LogLevel: "info",
		MaxConnections: 4096, BodyTimeout: time.Minute, ShutdownGrace: 30 * time.Second,
		Ledger:  Ledger{Enabled: true, Keep: Duration(400 * day)},
		GPU:     GPU{Fit: FitWait, BadSamples: 3, GoodSamples: 10, VRAMFloor: 256 << 20, BusyPercent: 95, BusyFor: 10 * time.Second},
		Servers: map[string]Server{}, Upstreams: built.Upstreams, Routes: built.Routes,
	}
}

// DefaultStateDir is where a daemon keeps what it needs to remember: systemd's
// StateDirectory, /var/lib for root, else the user's own state folder.
func DefaultStateDir() string {
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 && dirs[0] != "" {
		return dirs[0]
	}
	if os.Geteuid() == 0 {
		return "/var/lib/llmsup"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "llmsup")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "llmsup")
	}
	return filepath.Join(userTempDir(), "state")
}

// ServiceControlSocket is where the daemon of root, or of the systemd unit, is
// found.
const ServiceControlSocket = "/run/llmsup/" + controlName

// ServiceFile is the configuration file of the systemd unit.
const ServiceFile = "/etc/llmsup/llmsup.yaml"

const controlName = "control.sock"

// DefaultControlSocket is where a daemon and its clients meet: systemd's
// RuntimeDirectory, /run for root, else the user's own runtime folder.
func DefaultControlSocket() string {
	if dirs := filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")); len(dirs) > 0 && dirs[0] != "" {
		return filepath.Join(dirs[0], controlName)
	}
	if os.Geteuid() == 0 {
		return ServiceControlSocket
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "llmsup", controlName)
	}
	return filepath.Join(userTempDir(), controlName)
}

// DemoDir is where the demo model is made.
func (c *Config) DemoDir() string { return filepath.Join(c.StateDir, DemoName) }

// userTempDir is a folder of this user's for boxes without a login session. Whoever
// uses it makes it with mode 0700, and refuses one of another owner.
func userTempDir() string {
	return filepath.Join(os.TempDir(), "llmsup-"+strconv.Itoa(os.Geteuid()))
}

// Table makes the routing table. Resolve has made it complete.
func (c *Config) Table() (*models.Table, error) { return models.NewTable(c.Routes) }
