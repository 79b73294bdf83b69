package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/router/wire"
)

// Daemon is what the page commands.
type Daemon interface {
	control.Operator
	control.Loader
	control.Calls
	// UsageOfKey adds up the calls with one client key, "" = all, as control.Reader's Usage.
	UsageOfKey(ctx context.Context, key string, from, to time.Time, by string) (control.Usage, error)
	// Pin protects a loaded model from being unloaded for another one, until llmsup ends.
	Pin(server string, pinned bool) error
}

// Puller downloads models.
type Puller interface {
	// Pull downloads a model and emits its progress. The download continues if ctx ends.
	Pull(ctx context.Context, ref string, emit func(control.Step) error) error
	// CancelPull stops a download, and keeps what it has.
	CancelPull(ref string) error
}

// pullRequest is the body of POST /ui/api/pull and /ui/api/pull-cancel.
type pullRequest struct {
	Ref string `json:"ref"`
}

// logged implements secretive: the password and the query of a URL may be secret.
func (r pullRequest) logged() any {
	u, err := url.Parse(r.Ref)
	if err != nil {
		return pullRequest{Ref: "not a reference"}
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return pullRequest{Ref: u.String()}
}

// secretive is a body of which the log gets less.
type secretive interface{ logged() any }

// pinRequest is the body of POST /ui/api/pin.
type pinRequest struct {
	Server string `json:"server"`
	Pinned bool   `json:"pinned"`
}

// handleCommands serves the commands. Their bodies are those of the control API.
func (h *Handler) handleCommands() {
	d := h.o.Daemon
	handleSteps(h, "drain", "servers, timeout, for, keep_server and yes", func(ctx context.Context, how control.DrainRequest, emit func(control.Step) error) error {
		if how.Timeout < 0 || how.For < 0 {
			return errors.New("timeout and for must not be negative")
		}
		return d.Drain(ctx, how, emit)
	})
	handleSteps(h, "resume", "servers", func(ctx context.Context, which control.ServersRequest, emit func(control.Step) error) error {
		return d.Resume(ctx, which.Servers, emit)
	})
	handleSteps(h, "load", "server", func(ctx context.Context, which control.LoadRequest, emit func(control.Step) error) error {
		return d.Load(ctx, which.Server, emit)
	})
	handleSteps(h, "unload", "server and now", d.Unload)
	handleCommand(h, "restart", "servers", func(_ viewer, which control.ServersRequest) (any, error) { return d.Restart(which.Servers) })
	handleCommand(h, "reload", "nothing", func(viewer, struct{}) (any, error) {
		changes, err := d.Reload()
		if err != nil {
			return nil, fmt.Errorf("%w; the old configuration stays", err)
		}
		return control.Reloaded{Changes: changes}, nil
	})
	handleCommand(h, "cancel", "id", func(v viewer, which control.CancelRequest) (any, error) {
		calls, err := d.CancelCall(which.ID, v.name())
		return control.Cancelled{Calls: calls}, err
	})
	handleSteps(h, "pull", "ref", func(ctx context.Context, which pullRequest, emit func(control.Step) error) error {
		return h.o.Puller.Pull(ctx, which.Ref, emit)
	})
	handleCommand(h, "pull-cancel", "ref", func(_ viewer, which pullRequest) (any, error) { return which, h.o.Puller.CancelPull(which.Ref) })
	handleCommand(h, "pin", "server and pinned", func(_ viewer, how pinRequest) (any, error) { return how, d.Pin(how.Server, how.Pinned) })
}

// handleSteps serves a command that reports its steps. It continues if the page is closed.
func handleSteps[B any](h *Handler, name, fields string, run func(context.Context, B, func(control.Step) error) error) {
	handle(h, name, fields, func(w http.ResponseWriter, r *http.Request, _ viewer, body B) {
		ctx, cancel := h.untilClosed(r.Context())
		defer cancel()
		out := http.NewResponseController(w)
		begun := false
		err := run(ctx, body, func(s control.Step) error {
			if !begun {
				w.Header().Set("Content-Type", "application/x-ndjson")
				begun = true
			}
			if err := out.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return err
			}
			if err := json.NewEncoder(w).Encode(s); err != nil {
				return err
			}
			return out.Flush()
		})
		if err != nil && !begun { // later errors mean that the client closed the connection
			writeError(w, refusal(err))
		}
	})
}

// handleCommand serves a command that is done at once.
func handleCommand[B any](h *Handler, name, fields string, run func(viewer, B) (any, error)) {
	handle(h, name, fields, func(w http.ResponseWriter, _ *http.Request, v viewer, body B) {
		result, err := run(v, body)
		if err != nil {
			writeError(w, refusal(err))
			return
		}
		writeJSON(w, result)
	})
}

// handle serves a command of viewers who may give it, and logs who has given it.
func handle[B any](h *Handler, name, fields string, serve func(http.ResponseWriter, *http.Request, viewer, B)) {
	h.paths.Handle("POST /ui/api/"+name, h.forViewers(func(w http.ResponseWriter, r *http.Request, v viewer) {
		if !v.commands {
			h.o.Log.Warn().Str("command", name).Str("by", v.name()).Str("from", r.RemoteAddr).Msg("a command by the page was refused: no operator")
			writeError(w, wire.Error{Status: http.StatusForbidden, Type: wire.TypeInvalid, Code: wire.CodeNotOperator, Message: v.why})
			return
		}
		var body B
		if !readBody(w, r, &body, fields) {
			return
		}
		logged := any(body)
		if b, ok := logged.(secretive); ok {
			logged = b.logged()
		}
		h.o.Log.Info().Str("command", name).RawJSON("body", wire.MustJSON(logged)).Str("by", v.name()).Str("from", r.RemoteAddr).Msg("a command by the page")
		serve(w, r, v, body)
	}))
}

// name is what the log calls the viewer.
func (v viewer) name() string {
	if v.key != nil {
		return v.key.Name
	}
	if v.commands {
		return "loopback"
	}
	return "a client without a key"
}

// refusal is the client's error for a command that the daemon refuses.
func refusal(err error) wire.Error {
	e := wire.Error{Status: http.StatusConflict, Type: wire.TypeInvalid, Code: "refused", Message: err.Error()}
	if noFallback, ok := errors.AsType[control.NoFallbackError](err); ok {
		e.Code, e.Param = "no_fallback", strings.Join(noFallback.Routes, ", ")
	}
	return e
}

// untilClosed returns a context that also ends when llmsup stops.
func (h *Handler) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(h.closing, cancel)
	return ctx, func() { stop(); cancel() }
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client closed the connection
}

// call serves a call that a person makes on the page, as the endpoint would with the key of
// the session.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, v viewer) {
	u := *r.URL
	u.Path, u.RawPath = strings.TrimPrefix(u.Path, "/ui"), ""
	r = r.Clone(r.Context())
	r.URL = &u
	r.Header.Del("Cookie")
	h.o.Router.ServeFor(v.key, w, r)
}
