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

// host is the name that the client calls the daemon by. A web page that gets a
// browser to reach the socket can't choose it.
const host = "llmsup"

// Source is the daemon, as far as the control API asks it.
type Source interface {
	Status() Status
	Route(model string) RouteAnswer
	// Usage adds up the calls of a span of time; by is "" or one of UsageBy.
	Usage(ctx context.Context, from, to time.Time, by string) (Usage, error)
	// Restart replaces the processes of servers, none = all; their states show how that
	// goes.
	Restart(servers []string) (Restarting, error)
	// Drain takes servers out of use and hands on each step until that is done. The
	// drain goes on when ctx ends. A StrandedError says that nothing was done, since
	// calls would be rejected.
	Drain(ctx context.Context, how DrainRequest, emit func(Step) error) error
	// Resume takes servers into use again, none = all, in the same way.
	Resume(ctx context.Context, servers []string, emit func(Step) error) error
	// Reload reads the configuration anew, and returns what has changed; with an
	// error everything is as before.
	Reload() (changes []string, err error)
	// Logs calls begin once it has found the servers that are asked for. Then it hands
	// on the last lines that they printed and, to follow, the later ones until ctx
	// ends. It stops at the first error of begin or emit.
	Logs(ctx context.Context, q LogsRequest, begin func() error, emit func(LogLine) error) error
}

// versionHeader is how each side tells the other its version.
const versionHeader = "X-Llmsup-Version"

// NewHandler makes the control API of a daemon of some version: reads are GET,
// changes are POST. Its server's ConnContext has to be WithPeer.
func NewHandler(source Source, version string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, source.Status()) })
	mux.HandleFunc("GET /v1/route", func(w http.ResponseWriter, r *http.Request) {
		model := r.URL.Query().Get("model")
		if model == "" {
			refuse(w, http.StatusBadRequest, "the query needs a model")
			return
		}
		answer(w, http.StatusOK, source.Route(model))
	})
	mux.HandleFunc("GET /v1/usage", func(w http.ResponseWriter, r *http.Request) { answerUsage(w, r, source) })
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, r *http.Request) {
		var which ServersRequest
		if !readBody(w, r, &which, "servers") {
			return
		}
		begun, err := source.Restart(which.Servers)
		if err != nil {
			refuse(w, http.StatusConflict, err.Error())
			return
		}
		answer(w, http.StatusOK, begun)
	})
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, r *http.Request) {
		var how DrainRequest
		if !readBody(w, r, &how, "servers, timeout, for, keep_server and yes") {
			return
		}
		if how.Timeout < 0 || how.For < 0 {
			refuse(w, http.StatusBadRequest, "timeout and for must not be negative")
			return
		}
		streamSteps(w, func(emit func(Step) error) error { return source.Drain(r.Context(), how, emit) })
	})
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) {
		var which ServersRequest
		if !readBody(w, r, &which, "servers") {
			return
		}
		streamSteps(w, func(emit func(Step) error) error { return source.Resume(r.Context(), which.Servers, emit) })
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		changes, err := source.Reload()
		if err != nil {
			refuse(w, http.StatusConflict, err.Error()+"; the old configuration stays")
			return
		}
		answer(w, http.StatusOK, Reloaded{changes})
	})
	mux.HandleFunc("GET /v1/logs", func(w http.ResponseWriter, r *http.Request) { streamLogs(w, r, source) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Sprintf("this daemon knows no %s %s; is it of another version?", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(versionHeader, version)
		if r.Host != host || r.Header.Get("Origin") != "" {
			refuse(w, http.StatusForbidden, "the control socket is for the llmsup command alone")
			return
		}
		if r.Method != http.MethodGet {
			if err := mayChange(r); err != nil {
				refuse(w, http.StatusForbidden, err.Error())
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// maxRequest bounds a request's body, in bytes.
const maxRequest = 64 << 10

// readBody decodes a request's body, which may be empty. It answers one that is wrong
// itself and returns false.
func readBody(w http.ResponseWriter, r *http.Request, into any, fields string) bool {
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	body.DisallowUnknownFields()
	if err := body.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body has to be JSON with "+fields)
		return false
	}
	return true
}

// StrandedError names the routes whose calls no backend could answer.
type StrandedError struct{ Routes []string }

func (e StrandedError) Error() string {
	return "no other backend can answer calls for " + strings.Join(e.Routes, ", ") + ": they would be rejected with 503 while the servers are drained"
}

// streamSteps answers with steps as they happen; with an error, if nothing has.
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
	var stranded StrandedError
	switch {
	case err == nil || begun: // the client has left
	case errors.As(err, &stranded):
		answer(w, http.StatusConflict, errorBody{Error: err.Error(), Stranded: stranded.Routes})
	default:
		refuse(w, http.StatusConflict, err.Error())
	}
}

// MaxLogLines bounds what one question for lines may ask for.
const MaxLogLines = 100_000

func streamLogs(w http.ResponseWriter, r *http.Request, source Source) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 0 || n > MaxLogLines {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("n has to be a number of lines between 0 and %d", MaxLogLines))
		return
	}
	q := LogsRequest{Servers: r.URL.Query()["server"], Lines: n, Follow: r.URL.Query().Get("follow") == "true"}
	lines := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	begun := false
	err = source.Logs(r.Context(), q, func() error {
		begun = true
		w.Header().Set("Content-Type", "application/x-ndjson")
		return flush() // the headers, before there is a line to follow
	}, func(line LogLine) error {
		if err := lines.Encode(line); err != nil || !q.Follow {
			return err
		}
		return flush()
	})
	if err != nil && !begun { // later the only error is that the client closed the connection
		refuse(w, http.StatusConflict, err.Error())
	}
}

type errorBody struct {
	Error    string   `json:"error"`
	Stranded []string `json:"stranded,omitempty"` // routes, of a StrandedError
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, errorBody{Error: message})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}
