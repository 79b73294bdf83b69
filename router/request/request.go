package request

import (
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/wire"
)

// Request is what the packages below the router need to know of a client's call, or of the
// call as a backend gets it if its body is edited. It does not change once it has been planned.
type Request struct {
	ID      string // the answer's X-Request-Id
	Method  string
	Path    string // the endpoint's, such as /v1/chat/completions, also if the client called it by an alias
	Query   string // for a local server, encoded; "" = none
	Header  http.Header
	Server  bool // it is about the server: it takes no slot, and is no call of its model
	Body    Body
	Dialect wire.Dialect
	Began   time.Time // when it arrived
	Number  int64     // of its row in the ledger; 0 = it has none yet
	Route   string    // the name of its route; "" = it has none
	Key     string    // the name of its client's key; "" = clients need none
	FromBox string    // the box of the fleet that has sent it, and records it; "" = a client
}
