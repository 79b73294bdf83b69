package feed

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// maxCalls limits the calls in flight that a page gets.
const maxCalls = 500

// routesInterval is how often the routes of a Viewer are computed.
const routesInterval = 5 * time.Second

// Box is the section of this llmsup.
type Box struct {
	Name    string    `json:"name"` // of the host
	Version string    `json:"version"`
	Listen  string    `json:"listen"`
	Started time.Time `json:"started"`
	Epoch   string    `json:"epoch"`
}

// Call is a call in flight.
type Call struct {
	ID          string       `json:"id"`
	Started     time.Time    `json:"started"`
	Path        string       `json:"path"`
	Model       string       `json:"model"` // as the client sent it
	Key         string       `json:"key"`
	Backend     string       `json:"backend"` // "" = not known yet
	Reason      string       `json:"reason"`  // why not the primary
	Phase       string       `json:"phase"`
	Place       int          `json:"place"` // in a queue; 0 = in none
	Tokens      int64        `json:"tokens"`
	FirstAnswer *time.Time   `json:"first_answer"` // null = not yet
	Cost        *control.USD `json:"cost_usd"`     // so far; null = unknown
}

// Route is a model that a client may call.
type Route struct {
	Name         string   `json:"name"`
	Primary      string   `json:"primary"`
	Local        bool     `json:"local"` // the primary is a server of llmsup's own
	Paid         bool     `json:"paid"`  // the primary bills its calls
	Fallback     string   `json:"fallback"`
	FallbackName string   `json:"fallback_model"` // by which a client can call the fallback alone; "" = by none
	FallbackPaid bool     `json:"fallback_paid"`
	PriceIn      *float64 `json:"price_in"`  // USD per million tokens of the first of the two that bills; null = unknown
	PriceOut     *float64 `json:"price_out"` // as PriceIn
}

// server is a server with the figures that status does not have.
type server struct {
	control.Server
	TokensPerSecond *float64 `json:"tokens_per_second"`       // null = no call has run in the last ten seconds
	FirstTokenP50   *float64 `json:"first_token_p50_seconds"` // null = no call has been answered lately
	Load            string   `json:"load"`
	Pinned          bool     `json:"pinned"`
}

// upstream is an upstream with the time since which it is as it is.
type upstream struct {
	control.Upstream
	Since time.Time `json:"since"`
}

// inFlight is the section of the calls in flight.
type inFlight struct {
	Total int    `json:"total"`
	Calls []Call `json:"calls"`
}

// inputs are what all sections of one moment are computed from.
type inputs struct {
	status    control.Status
	models    []control.Model
	calls     []Call
	servers   []server
	upstreams []upstream
	history   json.RawMessage
	boxes     control.Boxes
}

// read reads the inputs.
func (f *Feed) read(now time.Time) *inputs {
	in := &inputs{status: f.o.Daemon.Status(), models: f.o.Daemon.Models(), calls: f.o.Traffic.InFlight(), history: f.history.json(), boxes: f.o.Fleet.Boxes()}
	byName := map[string]control.Model{}
	for _, m := range in.models {
		byName[m.Name] = m
	}
	speeds := f.rates.Observe(now, in.calls, f.o.Traffic.LastEnded())
	for _, s := range in.status.Servers {
		m, at := byName[s.Name], speeds[s.Name]
		in.servers = append(in.servers, server{s, at.TokensPerSecond, at.FirstTokenP50, m.Load, m.Pinned})
	}
	in.upstreams = f.since.observe(now, in.status.Upstreams)
	f.today.ended(f.o.Traffic.Ended(), now)
	return in
}

// sections returns the sections that a Viewer may see.
func (f *Feed) sections(v Viewer, in *inputs, withRoutes bool) []named {
	var all []named
	add := func(name string, value any) {
		if encoded, err := json.Marshal(value); err == nil { // all types can be encoded
			all = append(all, named{name, encoded})
		}
	}
	add("box", f.o.Box)
	add("today", f.today.of(v))
	add("servers", nonNil(serversFor(v, in.servers)))
	add("gpu_problem", in.status.GPUProblem)
	add("gpus", nonNil(gpusFor(v, in.status.GPUs)))
	all = append(all, named{"history", in.history})
	add("upstreams", nonNil(in.upstreams))
	add("drain", in.status.Drain)
	add("budgets", nonNil(budgetsFor(v, in.status.Budgets)))
	add("ledger", in.status.Ledger)
	add("inflight", callsFor(v, in.calls))
	add("models", nonNil(modelsFor(v, in.models)))
	add("fleet", f.fleetFor(v, in.boxes))
	if withRoutes {
		add("routes", nonNil(f.o.Traffic.Routes(v.Key)))
	}
	return all
}

// serversFor returns the servers without what they printed, which may quote a prompt, and
// without paths, unless the Viewer is an operator.
func serversFor(v Viewer, all []server) []server {
	if v.Operator {
		return all
	}
	shown := slices.Clone(all)
	for i := range shown {
		s := &shown[i]
		s.Model = filepath.Base(s.Model)
		if s.LastExit != nil {
			exit := *s.LastExit
			exit.Tail, s.LastExit = nil, &exit
		}
	}
	return shown
}

// gpusFor returns the GPUs, and the names of programs only to an operator.
func gpusFor(v Viewer, all []control.GPU) []control.GPU {
	if v.Operator {
		return all
	}
	shown := slices.Clone(all)
	for i := range shown {
		shown[i].Processes = slices.Clone(shown[i].Processes)
		for j := range shown[i].Processes {
			shown[i].Processes[j].Program = ""
		}
	}
	return shown
}

func budgetsFor(v Viewer, all []control.Budget) []control.Budget {
	if v.Operator {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(b control.Budget) bool { return b.Key == "" || b.Key != v.Key })
}

func callsFor(v Viewer, all []Call) inFlight {
	if !v.Operator {
		all = slices.DeleteFunc(slices.Clone(all), func(c Call) bool { return c.Key != v.Key })
	}
	return inFlight{len(all), nonNil(all[:min(len(all), maxCalls)])}
}

func modelsFor(v Viewer, all []control.Model) []control.Model {
	if v.Operator {
		return all
	}
	shown := slices.Clone(all)
	for i := range shown {
		shown[i].Model = filepath.Base(shown[i].Model)
	}
	return shown
}

func nonNil[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
