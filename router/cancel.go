package router

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/router/record"
	"github.com/llmsup/llmsup/router/wire"
)

// cancelledError is the error of the client of a cancelled call. A retry would be cancelled, too.
var cancelledError = wire.Error{
	Status: record.StatusClientClosedRequest, Type: wire.TypeInvalid, Code: wire.CodeCancelled, Definite: true, Message: "an operator cancelled this call",
}

// writeGrace is how long a client may take to receive the end of a cancelled call.
const writeGrace = time.Second

// CancelCall implements inflight.Canceler. The call's goroutine answers the client, unless that
// does not read what it is being sent.
func (x *exchange) CancelCall() {
	x.cancel(record.ErrCancelled)
	_ = http.NewResponseController(x.client).SetWriteDeadline(time.Now().Add(writeGrace)) // not every writer supports deadlines
}

// isCancelled reports whether an operator has cancelled the call.
func (x *exchange) isCancelled() bool {
	return x.ctx.Err() != nil && errors.Is(context.Cause(x.ctx), record.ErrCancelled)
}
