package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// host is the name that the client calls the daemon by. A web page that gets a
// browser to reach the socket can't choose it.
const host = "llmsup"

// Source is the daemon, as far as the control API asks it.
type Source interface {
	Status() Status
	Route(model string) RouteAnswer
	// Restart asks all servers for new processes; their states tell how that goes.
	Restart()
	// Reload reads the configuration anew, and returns what has changed; with an
	// error everything is as before.
	Reload() (changes []string, err error)
	// Logs hands on the last n lines that the servers printed and, to follow,
	// the later ones until ctx ends. It stops at emit's first error.
	Logs(ctx context.Context, n int, follow bool, emit func(LogLine) error) error
}

// NewHandler makes the control API: reads are GET, changes are POST.
func NewHandler(source Source) http.Handler {
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
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, _ *http.Request) {
		source.Restart()
		answer(w, http.StatusOK, struct{}{})
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
		if r.Host != host || r.Header.Get("Origin") != "" {
			refuse(w, http.StatusForbidden, "the control socket is for the llmsup command alone")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// maxLogLines bounds what one question for lines may ask for.
const maxLogLines = 100_000

func streamLogs(w http.ResponseWriter, r *http.Request, source Source) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 0 || n > maxLogLines {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("n has to be a number of lines between 0 and %d", maxLogLines))
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
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, message string) { answer(w, status, errorBody{message}) }

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}
