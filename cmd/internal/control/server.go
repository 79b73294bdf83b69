package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Host is the host name in the client's requests. A web page that makes a browser connect
// to the socket cannot set it.
const Host = "llmsup"

// Daemon is what the control API needs of the daemon.
type Daemon interface {
	Reader
	Operator
	Loader
	Calls
	BoxReader
	CallFinder
	FleetConfigurer
	Disk
}

// Reader answers requests that change nothing. Every user who can open the socket may
// make them.
type Reader interface {
	Status() Status
	Models() []Model
	Route(model string) RouteAnswer
	// Usage adds up the calls of a period, grouped by one of UsageBy or "".
	Usage(ctx context.Context, from, to time.Time, by string) (Usage, error)
	// Logs calls begin once it has found the requested servers. Then it emits the last
	// lines that they printed and, if it follows, the later ones until ctx ends. It
	// stops at the first error of begin or emit.
	Logs(ctx context.Context, q LogsRequest, begin func() error, emit func(LogLine) error) error
}

// Operator carries out an operator's commands.
type Operator interface {
	// Drain takes servers out of use and emits each step until they are. The drain
	// continues if ctx ends. A NoFallbackError means that nothing was changed, since
	// calls would be rejected.
	Drain(ctx context.Context, how DrainRequest, emit func(Step) error) error
	// Resume takes servers into use again, none = all, in the same way.
	Resume(ctx context.Context, servers []string, emit func(Step) error) error
	// Restart replaces the processes of servers, none = all. Their states show the
	// progress.
	Restart(servers []string) (Restarting, error)
	// Reload reloads the configuration, and returns what has changed. After an error
	// nothing has.
	Reload() (changes []string, err error)
}

// versionHeader has the version of the daemon.
const versionHeader = "X-Llmsup-Version"

// NewHandler returns the control API of a daemon of some version: reads are GET, changes
// are POST. Its server's ConnContext has to be WithPeer.
func NewHandler(daemon Daemon, version string) http.Handler {
	mux := http.NewServeMux()
	handleReads(mux, daemon)
	handleCommands(mux, daemon)
	handleLoads(mux, daemon)
	handleCalls(mux, daemon)
	handleBoxes(mux, daemon)
	handleFleetConfig(mux, daemon)
	handleFleet(mux, daemon)
	handleFleetCalls(mux, daemon)
	handleDisk(mux, daemon)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		reject(w, http.StatusNotFound, fmt.Sprintf("this daemon has no %s %s; it may be another version of llmsup", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(versionHeader, version)
		if r.Host != Host || r.Header.Get("Origin") != "" {
			reject(w, http.StatusForbidden, "the control socket is for the llmsup command only")
			return
		}
		if r.Method != http.MethodGet {
			if err := authorizeChange(r); err != nil {
				reject(w, http.StatusForbidden, err.Error())
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

func handleReads(mux *http.ServeMux, daemon Reader) {
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, daemon.Status()) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, Models{nonNil(daemon.Models())})
	})
	mux.HandleFunc("GET /v1/route", func(w http.ResponseWriter, r *http.Request) {
		model := r.URL.Query().Get("model")
		if model == "" {
			reject(w, http.StatusBadRequest, "the query needs a model")
			return
		}
		writeJSON(w, http.StatusOK, daemon.Route(model))
	})
	mux.HandleFunc("GET /v1/usage", func(w http.ResponseWriter, r *http.Request) { serveUsage(w, r, daemon) })
	mux.HandleFunc("GET /v1/logs", func(w http.ResponseWriter, r *http.Request) { streamLogs(w, r, daemon) })
}

func handleCommands(mux *http.ServeMux, daemon Operator) {
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, r *http.Request) {
		var how DrainRequest
		if !readBody(w, r, &how, "servers, timeout, for, keep_server and yes") {
			return
		}
		if how.Timeout < 0 || how.For < 0 {
			reject(w, http.StatusBadRequest, "timeout and for must not be negative")
			return
		}
		streamSteps(w, func(emit func(Step) error) error { return daemon.Drain(r.Context(), how, emit) })
	})
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) {
		var which ServersRequest
		if !readBody(w, r, &which, "servers") {
			return
		}
		streamSteps(w, func(emit func(Step) error) error { return daemon.Resume(r.Context(), which.Servers, emit) })
	})
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, r *http.Request) {
		var which ServersRequest
		if !readBody(w, r, &which, "servers") {
			return
		}
		begun, err := daemon.Restart(which.Servers)
		if err != nil {
			reject(w, http.StatusConflict, err.Error())
			return
		}
		writeJSON(w, http.StatusOK, begun)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		changes, err := daemon.Reload()
		if err != nil {
			reject(w, http.StatusConflict, err.Error()+"; the old configuration stays")
			return
		}
		writeJSON(w, http.StatusOK, Reloaded{changes})
	})
}

// maxBody limits a request's body, in bytes.
const maxBody = 64 << 10

// readBody decodes a request's body, which may be empty. If the body is invalid, it
// rejects the request and returns false.
func readBody(w http.ResponseWriter, r *http.Request, into any, fields string) bool {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		reject(w, http.StatusBadRequest, "the body has to be JSON with "+fields)
		return false
	}
	return true
}

// NoFallbackError has the routes whose calls no backend could answer.
type NoFallbackError struct{ Routes []string }

func (e NoFallbackError) Error() string {
	return "no other backend can answer calls for " + strings.Join(e.Routes, ", ") + ": they would be rejected with 503 while the servers are drained"
}

// streamSteps writes steps as they happen, or an error before the first one.
func streamSteps(w http.ResponseWriter, run func(emit func(Step) error) error) {
	lines := json.NewEncoder(w)
	begun := false
	err := run(func(s Step) error {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		if err := lines.Encode(s); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	var noFallback NoFallbackError
	switch {
	case err == nil || begun: // the client closed the connection
	case errors.As(err, &noFallback):
		writeJSON(w, http.StatusConflict, errorBody{Error: err.Error(), NoFallback: noFallback.Routes})
	default:
		reject(w, http.StatusConflict, err.Error())
	}
}

// MaxLogLines limits the lines of a request.
const MaxLogLines = 100_000

func streamLogs(w http.ResponseWriter, r *http.Request, daemon Reader) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 0 || n > MaxLogLines {
		reject(w, http.StatusBadRequest, fmt.Sprintf("n has to be a number of lines between 0 and %d", MaxLogLines))
		return
	}
	q := LogsRequest{Servers: r.URL.Query()["server"], Lines: n, Follow: r.URL.Query().Get("follow") == "true"}
	lines := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	begun := false
	err = daemon.Logs(r.Context(), q, func() error {
		begun = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		return flush() // the headers, before the first line
	}, func(line LogLine) error {
		if err := lines.Encode(line); err != nil || !q.Follow {
			return err
		}
		return flush()
	})
	if err != nil && !begun { // later errors mean that the client closed the connection
		reject(w, http.StatusConflict, err.Error())
	}
}

type errorBody struct {
	Error      string   `json:"error"`
	NoFallback []string `json:"stranded,omitempty"` // the routes of a NoFallbackError
	NoCall     bool     `json:"no_call,omitempty"`  // it is an ErrNoCall
	NoFleet    bool     `json:"no_fleet,omitempty"` // it is ErrNoFleet
}

func reject(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, errorBody{Error: message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have closed the connection
}
