package control

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// Fleet is whether this box is in its fleet.
type Fleet struct {
	Box     string `json:"box"` // name of this box
	Joined  bool   `json:"joined"`
	Problem string `json:"problem"` // why it is not in the fleet, or what does not work; "" = all works
	Others  int    `json:"others"`  // boxes that it knows of
	// Foreign are boxes that use the same NATS account with another fleet's key; not authenticated.
	Foreign []string `json:"foreign"`

	Configuration *FleetConfiguration `json:"configuration,omitempty"` // only in the status
}

// Boxes is the answer of GET /v1/boxes: the boxes of the fleet as this one knows them.
type Boxes struct {
	Fleet *Fleet `json:"fleet"` // null = llmsup.yaml has none
	Boxes []Box  `json:"boxes"` // this one first, then the others by name

	Absent []AbsentBox `json:"absent"` // by name
}

// AbsentBox is a box that was in the fleet within the last day, and is not now.
type AbsentBox struct {
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Version  string    `json:"version"`
	Left     bool      `json:"left"`      // it stopped, or left the fleet by a reload; false = it is silent: killed, or cut off
	LastSeen time.Time `json:"last_seen"` // when it last announced itself, by this box's clock
}

// Box is a box of the fleet.
type Box struct {
	fleet.Box
	This        bool    `json:"this"`
	SeenSeconds float64 `json:"seen_seconds"` // since its last announcement
}

// MarshalJSON writes empty lists as [].
func (b Boxes) MarshalJSON() ([]byte, error) {
	type plain Boxes
	p := plain(b)
	p.Boxes, p.Absent = nonNil(p.Boxes), nonNil(p.Absent)
	return json.Marshal(p)
}

// BoxReader answers requests about the fleet that change nothing.
type BoxReader interface {
	Boxes() Boxes
	FleetReader
}

func handleBoxes(mux *http.ServeMux, daemon BoxReader) {
	mux.HandleFunc("GET /v1/boxes", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, daemon.Boxes()) })
}

// Boxes returns the boxes of the fleet.
func (c *Client) Boxes(ctx context.Context) (Boxes, error) { return get[Boxes](ctx, c, "/v1/boxes") }
