package control

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// host is the name that the client calls the daemon by. A web page that gets a
// browser to reach the socket can't choose it.
const host = "llmsup"

// Source is the daemon, as far as the control API asks it.
type Source interface {
	Status() Status
	Route(model string) RouteAnswer
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

type errorBody struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, message string) { answer(w, status, errorBody{message}) }

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have left
}
