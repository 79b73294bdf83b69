package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// Restart asks all servers for new processes; their states tell how that goes.
	Restart() error
	// Drain takes all servers out of use and hands on each step until that is done,
	// or joins whoever has begun to. It goes on when ctx ends. A StrandedError says
	// that nothing was done, since calls would be refused.
	Drain(ctx context.Context, how DrainRequest, emit func(Step) error) error
	// Resume takes them into use again, in the same way.
	Resume(ctx context.Context, emit func(Step) error) error
	// Reload reads the configuration anew, and returns what has changed; with an
	// error everything is as before.
	Reload() (changes []string, err error)
	// Logs hands on the last n lines that the servers printed and, to follow,
	// the later ones until ctx ends. It stops at emit's first error.
	Logs(ctx context.Context, n int, follow bool, emit func(LogLine) error) error
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
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, _ *http.Request) {
		if err := source.Restart(); err != nil {
			refuse(w, http.StatusConflict, err.Error())
			return
		}
		answer(w, http.StatusOK, struct{}{})
	})
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, r *http.Request) {
		var how DrainRequest
		body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
		body.DisallowUnknownFields()
		if err := body.Decode(&how); err != nil || how.Timeout < 0 || how.For < 0 {
			refuse(w, http.StatusBadRequest, "the body has to be JSON with timeout, for, keep_server and yes")
			return
		}
		streamSteps(w, func(emit func(Step) error) error { return source.Drain(r.Context(), how, emit) })
	})
	mux.HandleFunc("POST /v1/resume", func(w http.ResponseWriter, r *http.Request) {
		streamSteps(w, func(emit func(Step) error) error { return source.Resume(r.Context(), emit) })
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

// StrandedError says that some routes have nobody else who could answer.
type StrandedError struct{ Routes []string }

func (e StrandedError) Error() string {
	return "nobody else could answer calls for " + strings.Join(e.Routes, ", ") + ": they would be refused with 503 until llmsup resume"
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
	w.Header().Set("Content-Type", "application/x-ndjson")
	follow := r.URL.Query().Get("follow") == "true"
	lines := json.NewEncoder(w)
	flush := http.NewResponseController(w).Flush
	if err := flush(); err != nil { // the headers, before there is a line to follow
		return
	}
	_ = source.Logs(r.Context(), n, follow, func(line LogLine) error { // its only error is the client's leaving
		if err := lines.Encode(line); err != nil || !follow {
			return err
		}
		return flush()
	})
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
