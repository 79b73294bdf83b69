package control

import (
	"context"
	"encoding/json"
	"net/http"
	"os/user"
	"strconv"
	"time"
)

// FleetConfiguration is which configuration of its fleet a box runs.
type FleetConfiguration struct {
	Version  uint64     `json:"version"`   // 0 = none
	Sections []string   `json:"sections"`  // of llmsup.yaml that it defines
	Replaced []string   `json:"replaced"`  // those that llmsup.yaml has, too, and that are not used
	PushedBy string     `json:"pushed_by"` // USER@BOX
	PushedAt *time.Time `json:"pushed_at"`
	Refused  uint64     `json:"refused_version"` // the fleet's, which the box cannot apply; 0 = none
	NoKeys   bool       `json:"no_keys"`         // the box takes no calls of clients until it has keys
	Problem  string     `json:"problem"`         // "" = all works

	UnknownTargets []string `json:"unknown_targets"` // routes with a backend that no box has now, one sentence each; [] also while the box is alone
}

// MarshalJSON writes empty lists as [].
func (c FleetConfiguration) MarshalJSON() ([]byte, error) {
	type plain FleetConfiguration
	p := plain(c)
	p.Sections, p.Replaced, p.UnknownTargets = nonNil(p.Sections), nonNil(p.Replaced), nonNil(p.UnknownTargets)
	return json.Marshal(p)
}

// FleetDocument is a version of a fleet's configuration.
type FleetDocument struct {
	Version  uint64    `json:"version"`   // 1, 2, ...
	PushedAt time.Time `json:"pushed_at"` // by the clock of the box at which it was pushed
	PushedBy string    `json:"pushed_by"` // USER@BOX
	Text     string    `json:"text"`      // YAML, with sections of llmsup.yaml
}

// PushRequest is the body of POST /v1/fleet/push.
type PushRequest struct {
	File string `json:"file"` // its name, for errors
	Text string `json:"text"` // with the sections; others count as nothing

	Remove bool `json:"remove,omitempty"` // instead, the fleet is to define nothing
}

// PushedConfig is the answer of POST /v1/fleet/push.
type PushedConfig struct {
	Version   uint64         `json:"version"`
	Sections  []string       `json:"sections"`
	Unchanged bool           `json:"unchanged"`         // the fleet has this already, as that version
	Previous  *FleetDocument `json:"previous"`          // null = there was none
	Warnings  []string       `json:"warnings"`          // about what may be a mistake
	Refused   string         `json:"refused,omitempty"` // why this box could not apply it; it was pushed nevertheless
}

// PullRequest is the body of POST /v1/fleet/pull.
type PullRequest struct {
	Version uint64 `json:"version"` // 0 = the newest
}

// PulledConfig is the answer of POST /v1/fleet/pull.
type PulledConfig struct {
	Box     string         `json:"box"`     // name of this box
	Fleet   *FleetDocument `json:"fleet"`   // null = there is none of that version, or Problem
	Running *FleetDocument `json:"running"` // that this box runs; null = none
	Problem string         `json:"problem"` // why the fleet could not be asked
}

// FleetConfigurer changes and reads the configuration of the box's fleet.
type FleetConfigurer interface {
	// Push makes the sections of a file the fleet's configuration. After an error the fleet has
	// the old one.
	Push(ctx context.Context, r PushRequest, user string) (PushedConfig, error)
	// Pull returns the fleet's configuration of a version, 0 = the newest.
	Pull(ctx context.Context, version uint64) (PulledConfig, error)
}

// maxPush limits the body of a push, in bytes: a configuration file has at most 256 KiB, and
// JSON may need several bytes for one.
const maxPush = 2 << 20

// handleFleetConfig handles both as commands, since who may read keys' hashes is no other than
// who may read llmsup.yaml.
func handleFleetConfig(mux *http.ServeMux, daemon FleetConfigurer) {
	mux.HandleFunc("POST /v1/fleet/push", func(w http.ResponseWriter, r *http.Request) {
		var push PushRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxPush)).Decode(&push); err != nil {
			reject(w, http.StatusBadRequest, "the body has to be JSON with file and text")
			return
		}
		pushed, err := daemon.Push(r.Context(), push, userOf(r))
		if err != nil {
			reject(w, http.StatusConflict, err.Error())
			return
		}
		writeJSON(w, http.StatusOK, pushed)
	})
	mux.HandleFunc("POST /v1/fleet/pull", func(w http.ResponseWriter, r *http.Request) {
		var pull PullRequest
		if !readBody(w, r, &pull, "version") {
			return
		}
		pulled, err := daemon.Pull(r.Context(), pull.Version)
		if err != nil {
			reject(w, http.StatusConflict, err.Error())
			return
		}
		writeJSON(w, http.StatusOK, pulled)
	})
}

// userOf returns the name of the user at the other end of the socket.
func userOf(r *http.Request) string {
	p, ok := r.Context().Value(peerKey{}).(peer)
	if !ok {
		return "unknown"
	}
	if u, err := user.LookupId(strconv.Itoa(p.uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(p.uid)
}

// PushConfig makes the sections of a file the fleet's configuration.
func (c *Client) PushConfig(ctx context.Context, r PushRequest) (PushedConfig, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return PushedConfig{}, err
	}
	return request[PushedConfig](ctx, c, http.MethodPost, "/v1/fleet/push", body, reloadTimeout)
}

// PullConfig returns the fleet's configuration of a version, 0 = the newest.
func (c *Client) PullConfig(ctx context.Context, version uint64) (PulledConfig, error) {
	body, err := json.Marshal(PullRequest{version})
	if err != nil {
		return PulledConfig{}, err
	}
	return request[PulledConfig](ctx, c, http.MethodPost, "/v1/fleet/pull", body, reloadTimeout)
}
