// Package control is how llmsup's commands talk to the running daemon: HTTP
// over a UNIX socket that only its owner can open. It has the wire types, the
// server (the daemon's) and the only client (the commands').
package control

import (
	"encoding/json"
	"time"
)

// Status is the answer of GET /v1/status, and what `llmsup status --json`
// prints. Its names are part of the contract.
type Status struct {
	Version   string     `json:"version"`
	Listen    string     `json:"listen"`   // host:port of the endpoint
	Inflight  int        `json:"inflight"` // calls being worked on
	Servers   []Server   `json:"servers"`
	GPUs      []GPU      `json:"gpus"`
	Upstreams []Upstream `json:"upstreams"`

	GPUProblem string `json:"gpu_problem"` // why no GPU can be read; "" = they are, or none is wanted
	Drain      *Drain `json:"drain"`       // of all servers together; null = not all of them are drained

	Ledger  Ledger   `json:"ledger"`
	Budgets []Budget `json:"budgets"` // one each limit; none = nothing is limited
}

// Ledger is how what calls used and cost is being written down.
type Ledger struct {
	Condition  string  `json:"condition"`   // ok, behind, spilling, or LedgerOff
	Reason     string  `json:"reason"`      // for a person; "" = all is well
	LagSeconds float64 `json:"lag_seconds"` // how long the oldest row that is not in the database has waited for it
	Waiting    int     `json:"waiting"`     // rows in memory
	Lost       int     `json:"lost"`        // rows of free calls that were dropped, since the start
	Aside      string  `json:"aside"`       // where a corrupt database was moved to, since the start; "" = there was none
}

// LedgerOff is the condition of a ledger that the configuration turns off.
const LedgerOff = "off"

// Budget is how a limit stands in its present window.
type Budget struct {
	Key      string    `json:"key"`    // "" = all calls together
	Period   string    `json:"period"` // daily or monthly
	Limit    USD       `json:"limit_usd"`
	Spent    USD       `json:"spent_usd"`
	Reserved USD       `json:"reserved_usd"` // for calls that are under way
	Ends     time.Time `json:"ends"`         // of the window
}

// Drain is an operator's drain of a server, or of all of them.
type Drain struct {
	Since      time.Time  `json:"since"`
	Until      *time.Time `json:"until"`       // when it ends by itself; null = with llmsup resume
	KeepServer bool       `json:"keep_server"` // the process stays
}

// DrainRequest is the body of POST /v1/drain.
type DrainRequest struct {
	Servers    []string `json:"servers,omitempty"` // none = all
	Timeout    Duration `json:"timeout"`           // for running calls; 0 = as before, or ten minutes
	For        Duration `json:"for"`               // after which the servers are used again; 0 = with llmsup resume
	KeepServer bool     `json:"keep_server"`       // their processes stay
	Yes        bool     `json:"yes"`               // calls without another backend may be rejected
}

// ServersRequest is the body of POST /v1/resume and POST /v1/restart. Without a body
// all servers are meant.
type ServersRequest struct {
	Servers []string `json:"servers,omitempty"` // none = all
}

// Restarting is the answer of POST /v1/restart.
type Restarting struct {
	Servers []string `json:"servers"` // those that get a new process
	Drained []string `json:"drained"` // those that do not, since an operator has drained them
}

// Duration is written as Go does: "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Step is something that has happened on the way into a drain or out of it. The
// answers of POST /v1/drain and /v1/resume have one JSON object a line, as it
// happens, and so has --json.
type Step struct {
	At     time.Time `json:"at"`
	Server string    `json:"server"` // "" = it is about all of them
	Step   string    `json:"step"`   // a Step... constant
	Text   string    `json:"text"`   // for a person
	Calls  int       `json:"calls"`  // that run at the server
	Queued int       `json:"queued"` // that waited for it, and have left its queue
}

// The steps. The last one of a stream is StepDrained, StepResumed, StepCancelled or
// StepFailed without a server.
const (
	StepDraining  = "draining"  // new calls stay away from now on
	StepRunning   = "running"   // calls that have to end first
	StepRescuing  = "rescuing"  // their time is over
	StepStopping  = "stopping"  // llama-server is ending
	StepStopped   = "stopped"   // it has
	StepKept      = "kept"      // it goes on, without calls
	StepVRAM      = "vram"      // what it held is free again, or nobody can tell
	StepDrained   = "drained"   // done
	StepStarting  = "starting"  // on the way back
	StepReady     = "ready"     // it has answered a completion
	StepResumed   = "resumed"   // done
	StepCancelled = "cancelled" // somebody has taken the drain back
	StepWarning   = "warning"   // something that an operator has to know
	StepFailed    = "failed"    // it did not work
)

// MarshalJSON writes empty lists as [], so that scripts need no case for null.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	p := plain(s)
	p.Servers, p.GPUs, p.Upstreams, p.Budgets = list(p.Servers), list(p.GPUs), list(p.Upstreams), list(p.Budgets)
	return json.Marshal(p)
}

// Server is a llama-server that the daemon runs.
type Server struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"`  // when the state was entered
	Reason   string    `json:"reason"` // one line for a person
	PID      int       `json:"pid"`    // 0 = no process
	Restarts int       `json:"restarts"`
	Model    string    `json:"model"`    // path
	CtxSize  int       `json:"ctx_size"` // tokens
	Slots    int       `json:"slots"`    // calls worked on at once; 0 = not known yet
	Busy     int       `json:"busy"`     // slots in use
	Queued   int       `json:"queued"`   // calls that wait for one
	LastExit *LastExit `json:"last_exit"`

	Drain *Drain `json:"drain"` // null = no operator has drained it
	VRAM  *VRAM  `json:"vram"`  // null = none is wanted, or nobody can tell
}

// VRAM is what a server's model takes of the GPUs' memory, by an estimate that is
// made before the start, and what its process holds.
type VRAM struct {
	NeedBytes    uint64  `json:"need_bytes"`    // the sum of the next three
	WeightsBytes uint64  `json:"weights_bytes"` // of the offloaded layers
	KVBytes      uint64  `json:"kv_bytes"`      // the cache of keys and values
	ComputeBytes uint64  `json:"compute_bytes"` // buffers, and the driver's context
	HeldBytes    *uint64 `json:"held_bytes"`    // null = unknown, or no process runs
}

// LastExit is how a server's process ended last; null before it ever did.
type LastExit struct {
	At     time.Time `json:"at"`
	Code   int       `json:"code"`   // -1 when a signal ended it or it never started
	Signal string    `json:"signal"` // "SIGKILL", ...
	Class  string    `json:"class"`
	Tail   []string  `json:"tail"` // its last lines
}

// MarshalJSON writes an empty list as [].
func (e LastExit) MarshalJSON() ([]byte, error) {
	type plain LastExit
	p := plain(e)
	p.Tail = list(p.Tail)
	return json.Marshal(p)
}

func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// LogsRequest is the query of GET /v1/logs.
type LogsRequest struct {
	Servers []string // none = all
	Lines   int      // printed so far, to begin with
	Follow  bool     // go on with those that come
}

// LogLine is a line of GET /v1/logs, whose answer has one JSON object a line.
type LogLine struct {
	Server string    `json:"server"`
	At     time.Time `json:"at"`
	Text   string    `json:"text"`
	Lost   uint64    `json:"lost,omitempty"` // lines before this one that the reader was too slow for
}

// Reloaded is the answer of POST /v1/reload.
type Reloaded struct {
	Changes []string `json:"changes"` // a line each, for a person; none = nothing has changed
}

// GPU is a GPU as its driver tells. A figure that it does not give is null.
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

	MemoryPercent   *int         `json:"memory_utilization_percent"` // of the time in which memory was read or written
	PowerLimitWatts *float64     `json:"power_limit_watts"`
	Slowdown        *uint64      `json:"clocks_event_reasons"` // NVML's bits
	ECCUncorrected  *uint64      `json:"ecc_uncorrected"`      // memory errors since the driver was loaded
	PCIeReplays     *uint64      `json:"pcie_replays"`
	Processes       []GPUProcess `json:"processes"` // null = unknown
}

// GPUProcess is a process that holds memory of a GPU.
type GPUProcess struct {
	PID         int     `json:"pid"` // as the driver counts them, on the host
	Program     string  `json:"program"`
	MemoryBytes *uint64 `json:"memory_bytes"`
}

// Upstream is an endpoint that somebody else runs.
type Upstream struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason"` // why it can't be used
}

// RouteAnswer is the answer of GET /v1/route?model=NAME: where a call would go.
type RouteAnswer struct {
	Model         string `json:"model"`
	Route         string `json:"route"`          // the exact name or the pattern that matched; "" = none
	Backend       string `json:"backend"`        // "" = the call would be refused
	BackendModel  string `json:"backend_model"`  // the model's name there
	Reason        string `json:"reason"`         // why not the route's primary; "" = it is
	Fallback      string `json:"fallback"`       // who is asked when the backend fails; "" = nobody
	FallbackModel string `json:"fallback_model"` // the model's name there
	Timeout       string `json:"timeout"`        // to the first answer of the primary
	Explanation   string `json:"explanation"`    // all of it in a sentence
	Error         string `json:"error"`          // what the client would be told; "" = the call would be made
}
