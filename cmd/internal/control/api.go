// Package control connects llmsup's commands with the running daemon: HTTP over a UNIX
// socket that only its owner can open. It has the types of the API, the server, which
// cmd/internal/daemon runs, and the client, which cmd/llmsup uses. It also locks the
// state directory. It never decides anything about servers or calls.
package control

import (
	"encoding/json"
	"time"

	"github.com/llmsup/llmsup/models"
)

// Status is the answer of GET /v1/status, and what `llmsup status --json`
// prints. Its names are part of the contract.
type Status struct {
	Version   string     `json:"version"`
	Listen    string     `json:"listen"`   // host:port of the endpoint
	Inflight  int        `json:"inflight"` // calls in flight
	Servers   []Server   `json:"servers"`
	GPUs      []GPU      `json:"gpus"`
	Upstreams []Upstream `json:"upstreams"`

	GPUProblem string `json:"gpu_problem"` // why no GPU can be read; "" = GPUs are read, or none is configured
	Drain      *Drain `json:"drain"`       // of all servers together; null = some are in use

	Ledger  Ledger   `json:"ledger"`
	Budgets []Budget `json:"budgets"` // one per limit; none = there are no limits

	Page string `json:"page"` // address of the web page; "" = it is off
	TLS  *TLS   `json:"tls"`  // the endpoint's certificate; null = it speaks HTTP

	Fleet *Fleet `json:"fleet"` // null = llmsup.yaml has none
}

// TLS is the state of the certificate with which the endpoint speaks HTTPS.
type TLS struct {
	Expires time.Time `json:"expires"`
	Problem string    `json:"problem"` // it has expired or soon will, or a renewed one is not used, and why; "" = none
}

// URL returns the endpoint's base URL.
func (s *Status) URL() string {
	if s.TLS != nil {
		return "https://" + s.Listen + "/v1"
	}
	return "http://" + s.Listen + "/v1"
}

// Ledger is the condition of the ledger.
type Ledger struct {
	Condition  string  `json:"condition"`   // ok, behind, spilling, or LedgerOff
	Reason     string  `json:"reason"`      // human-readable; "" = no problem
	LagSeconds float64 `json:"lag_seconds"` // age of the oldest row that is not in the database yet
	Waiting    int     `json:"waiting"`     // rows in memory
	Lost       int     `json:"lost"`        // rows of free calls that were dropped, since the start
	Aside      string  `json:"aside"`       // where a corrupt database was moved since the start; "" = there was none
}

// LedgerOff is the condition if the configuration disables the ledger.
const LedgerOff = "off"

// Budget is the state of a limit in its present window.
type Budget struct {
	Key      string    `json:"key"`    // "" = all calls together
	Period   string    `json:"period"` // daily or monthly
	Limit    USD       `json:"limit_usd"`
	Spent    USD       `json:"spent_usd"`
	Reserved USD       `json:"reserved_usd"` // for calls in flight
	Ends     time.Time `json:"ends"`         // end of the window

	Fleet *FleetBudget `json:"fleet,omitempty"` // the limit is of all boxes of the fleet; null = of this box
}

// FleetBudget is what is particular to a limit that the boxes of a fleet share. Spent of such a
// Budget is of all boxes; what others have spent in the last seconds may be missing.
type FleetBudget struct {
	Granted USD          `json:"granted_usd"` // to this box, and not spent
	Left    USD          `json:"left_usd"`    // granted to no box
	Gone    []HeldBudget `json:"gone"`        // granted to boxes that are not in the fleet now
	Problem string       `json:"problem"`     // why this box gets no more credit; "" = it does
}

// HeldBudget is what a box holds of a limit that is not in the fleet: it is reserved until the
// box is back or the window ends.
type HeldBudget struct {
	Box    string    `json:"box"`
	Amount USD       `json:"amount_usd"`
	Since  time.Time `json:"since"` // when it was last heard of in this matter
}

// Drain is an operator's drain of a server, or of all of them.
type Drain struct {
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until"`       // when it ends automatically; null = with llmsup resume
	KeepServer bool       `json:"keep_server"` // the process keeps running
}

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	Servers    []string `json:"servers,omitempty"` // none = all
	Timeout    Duration `json:"timeout"`           // for running calls; 0 = unchanged, or ten minutes
	For        Duration `json:"for"`               // until the servers resume automatically; 0 = with llmsup resume
	KeepServer bool     `json:"keep_server"`       // their processes keep running
	Yes        bool     `json:"yes"`               // even if calls without another backend are rejected
}

// ServersRequest is the body of POST /v1/resume and POST /v1/restart. No body means all
// servers.
type ServersRequest struct {
	Servers []string `json:"servers,omitempty"` // none = all
}

// Restarting is the answer of POST /v1/restart.
type Restarting struct {
	Servers []string `json:"servers"` // those that get a new process
	Drained []string `json:"drained"` // those that do not, because an operator has drained them

	Unloaded []string `json:"unloaded"` // those that have no process until a call needs them
}

// Duration is a duration in Go's notation: "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Step is an event of a drain, a resume, a load or an unload. The answers of POST /v1/drain,
// /v1/resume, /v1/load and /v1/unload, and the output of --json, have one JSON object per line, as the steps happen.
type Step struct {
	At     time.Time `json:"at"`
	Server string    `json:"server"` // "" = all of the command
	Step   string    `json:"step"`   // a Step... constant
	Text   string    `json:"text"`   // human-readable
	Calls  int       `json:"calls"`  // running at the server
	Queued int       `json:"queued"` // waiting calls that have left the server's queue
}

// The steps. The last one of a stream is StepDrained, StepResumed, StepLoaded, StepUnloaded,
// StepCancelled or StepFailed without a server.
const (
	StepDraining  = "draining"  // the server gets no new calls
	StepRunning   = "running"   // running calls have to end first
	StepRescuing  = "rescuing"  // the time for running calls is over
	StepStopping  = "stopping"  // llama-server is stopping
	StepStopped   = "stopped"   // llama-server has ended
	StepKept      = "kept"      // llama-server keeps running, without calls
	StepVRAM      = "vram"      // the process's VRAM is free again, or that is unknown
	StepDrained   = "drained"   // done
	StepStarting  = "starting"  // the server is starting again
	StepReady     = "ready"     // it has answered a test call
	StepResumed   = "resumed"   // done
	StepCancelled = "cancelled" // another command has cancelled it
	StepLoaded    = "loaded"    // done: the model is loaded
	StepUnloaded  = "unloaded"  // done: the model is unloaded, and its VRAM is free
	StepPulled    = "pulled"    // done: the model is downloaded
	StepWarning   = "warning"   // a problem that does not stop the command
	StepFailed    = "failed"    // the command failed
)

// MarshalJSON writes empty lists as [], so that scripts need not handle null.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	p := plain(s)
	p.Servers, p.GPUs, p.Upstreams, p.Budgets = nonNil(p.Servers), nonNil(p.GPUs), nonNil(p.Upstreams), nonNil(p.Budgets)
	return json.Marshal(p)
}

// Server is a llama-server that the daemon runs.
type Server struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"`  // start of the state
	Reason   string    `json:"reason"` // one human-readable line
	PID      int       `json:"pid"`    // 0 = no process
	Restarts int       `json:"restarts"`
	Model    string    `json:"model"`    // path
	CtxSize  int       `json:"ctx_size"` // tokens
	Slots    int       `json:"slots"`    // concurrent calls; 0 = not known yet
	Busy     int       `json:"busy"`     // slots in use
	Queued   int       `json:"queued"`   // calls that wait for one
	LastExit *LastExit `json:"last_exit"`

	Drain *Drain `json:"drain"` // null = not drained by an operator
	VRAM  *VRAM  `json:"vram"`  // null = no need, or unknown

	Download *Download `json:"download"` // of its model; null = that is there

	LoadProgress    *float64   `json:"load_progress"`     // of a model that loads, 0 to 1, by the time that its loads have taken; null = unknown, or it does not load
	ReadyExpected   *time.Time `json:"ready_expected"`    // when a server that accepts no calls is expected to; null = unknown, or it does
	LoadsInSeconds  *float64   `json:"-"`                 // until its model would be loaded if a call came now; null = it is loaded, or could not be loaded soon
	WaitingForModel int        `json:"waiting_for_model"` // those of queued that wait for the model to be loaded
	WaitingSince    *time.Time `json:"waiting_since"`     // when the first of them arrived; null = there are none

	ServiceSeconds        *float64         `json:"service_seconds"`          // that a call holds its slots on average; null = unknown
	PromptTokensPerSecond *float64         `json:"prompt_tokens_per_second"` // of those that its cache does not have; null = unknown
	Capabilities          []models.Ability `json:"-"`                        // as in GET /v1/models; empty = unknown
	ContextLength         int              `json:"-"`                        // tokens of one call, as in GET /v1/models; 0 = unknown
	Aggregation           bool             `json:"-"`                        // a call without a stream may be sent to it as a stream
}

// VRAM is a model's estimated need of the GPUs' memory, of all its GPUs together, calculated
// before the start, and what the process holds.
type VRAM struct {
	NeedBytes    uint64  `json:"need_bytes"`    // the sum of the next three
	WeightsBytes uint64  `json:"weights_bytes"` // of the offloaded layers
	KVBytes      uint64  `json:"kv_bytes"`      // the cache of keys and values
	ComputeBytes uint64  `json:"compute_bytes"` // buffers, and the driver's context
	HeldBytes    *uint64 `json:"held_bytes"`    // null = unknown, or no process runs
	Uncertain    string  `json:"uncertain"`     // why the need may be far off; "" = it is certain
}

// LastExit is the last exit of a server's process; null = there was none.
type LastExit struct {
	At     time.Time `json:"at"`
	Code   int       `json:"code"`   // -1 if a signal ended it or it never started
	Signal string    `json:"signal"` // "SIGKILL", ...
	Class  string    `json:"class"`
	Tail   []string  `json:"tail"` // its last lines
}

// MarshalJSON writes an empty list as [].
func (e LastExit) MarshalJSON() ([]byte, error) {
	type plain LastExit
	p := plain(e)
	p.Tail = nonNil(p.Tail)
	return json.Marshal(p)
}

func nonNil[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// LogsRequest is the query of GET /v1/logs.
type LogsRequest struct {
	Servers []string // none = all
	Lines   int      // of the last lines to begin with
	Follow  bool     // continue with new lines
}

// LogLine is a line of GET /v1/logs, whose answer has one JSON object per line.
type LogLine struct {
	Server string    `json:"server"`
	At     time.Time `json:"at"`
	Level  string    `json:"level,omitempty"` // that the engine gives the line; "" = unknown
	Text   string    `json:"text"`
	Lost   uint64    `json:"lost,omitempty"` // lines before this one that were dropped because the reader was too slow
}

// Reloaded is the answer of POST /v1/reload.
type Reloaded struct {
	Changes []string `json:"changes"` // one human-readable line each; none = nothing has changed
}

// GPU is a GPU as its driver reports it. A value that it does not report is null.
type GPU struct {
	Index              int      `json:"index"`
	UUID               string   `json:"uuid"`
	Name               string   `json:"name"`
	MemoryTotalBytes   *uint64  `json:"memory_total_bytes"`
	MemoryUsedBytes    *uint64  `json:"memory_used_bytes"`
	MemoryFreeBytes    *uint64  `json:"memory_free_bytes"`
	UtilizationPercent *int     `json:"utilization_percent"`
	TemperatureCelsius *int     `json:"temperature_celsius"`
	PowerWatts         *float64 `json:"power_watts"`
	Health             string   `json:"health"` // ok, degraded, lost or unknown
	Reason             string   `json:"reason"`

	MemoryPercent   *int         `json:"memory_utilization_percent"` // share of the time in which memory was read or written
	PowerLimitWatts *float64     `json:"power_limit_watts"`
	Slowdown        *uint64      `json:"clocks_event_reasons"` // NVML's bits
	ECCUncorrected  *uint64      `json:"ecc_uncorrected"`      // memory errors since the driver was loaded
	PCIeReplays     *uint64      `json:"pcie_replays"`
	Processes       []GPUProcess `json:"processes"` // null = unknown

	MemoryParts []MemoryPart `json:"memory_parts"` // they add up to memory_total_bytes; null = unknown
}

// MemoryPart is a part of a GPU's memory.
type MemoryPart struct {
	// Kind is server, foreign (all processes that are not llmsup's), unlisted (in use, but of
	// no process that the driver lists with its memory: it may have just ended) or free.
	Kind   string `json:"kind"`
	Server string `json:"server"` // "" unless kind is server
	Bytes  uint64 `json:"bytes"`
}

// GPUProcess is a process that holds memory of a GPU.
type GPUProcess struct {
	PID         int     `json:"pid"` // on the host, as the driver reports it
	Program     string  `json:"program"`
	MemoryBytes *uint64 `json:"memory_bytes"`
	Server      string  `json:"server"` // to which it belongs; "" = it is not llmsup's
}

// Upstream is an endpoint that llmsup does not run.
type Upstream struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason"` // why it cannot be used
	// MissingKey means that it needs an API key and has none; Reason says what to set.
	MissingKey bool `json:"missing_key"`
}

// RouteAnswer is the answer of GET /v1/route?model=NAME: where a call would go.
type RouteAnswer struct {
	Model         string `json:"model"`
	Route         string `json:"route"`          // the exact name or the pattern that matched; "" = none
	Backend       string `json:"backend"`        // "" = the call would be rejected
	BackendModel  string `json:"backend_model"`  // the model's name there
	Reason        string `json:"reason"`         // why not the route's primary; "" = it is the primary
	Fallback      string `json:"fallback"`       // the next backend if this one fails; "" = none
	FallbackModel string `json:"fallback_model"` // the model's name there
	Timeout       string `json:"timeout"`        // until the first answer of the primary
	Explanation   string `json:"explanation"`    // the decision in a sentence
	Error         string `json:"error"`          // the client's error; "" = the call would be made

	Candidates []RouteCandidate `json:"candidates"` // Backend and those that are tried after it, in order; null = none
}

// RouteCandidate is a backend that may answer a call.
type RouteCandidate struct {
	Backend string `json:"backend"`
	Model   string `json:"model"` // its name there

	*models.Edits // that the backend gets the call with; nil = none
}
