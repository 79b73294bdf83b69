package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/cmd/internal/fleet"
)

// Options are what a Service needs.
type Options struct {
	API  http.Handler       // the control API of this box
	View func() *fleet.View // the fleet as this box knows it; nil = it has none
	Log  zerolog.Logger
}

// Service answers the requests of other boxes, and sends them requests. It implements fleet.Service,
// control.FleetReader and control.CallFinder.
type Service struct {
	o     Options
	conn  atomic.Pointer[fleet.Conn] // nil = there is none
	slots chan struct{}              // of answers that are computed

	timeout time.Duration // how long a box is waited for
}

// maxAnswering is how many requests are answered at the same time. Others wait.
const maxAnswering = 4

// New returns a Service.
func New(o Options) *Service {
	return &Service{o: o, slots: make(chan struct{}, maxAnswering), timeout: timeout}
}

// Serve implements fleet.Service.
func (s *Service) Serve(ctx context.Context, c *fleet.Conn) error {
	var answering sync.WaitGroup
	defer answering.Wait()
	stop, err := c.Receive(requestSubject, requestPurpose, func(body []byte) {
		var q request
		if err := json.Unmarshal(body, &q); err != nil {
			s.o.Log.Warn().Err(err).Msg("a request of another box cannot be read; that box may have another version of llmsup")
		} else if ctx.Err() == nil {
			answering.Go(func() { s.answer(ctx, c, &q) })
		}
	})
	if err != nil {
		return err
	}
	s.conn.Store(c)
	<-ctx.Done()
	s.conn.CompareAndSwap(c, nil)
	stop()
	return nil
}

// answer sends the answer to a request.
func (s *Service) answer(ctx context.Context, c *fleet.Conn, q *request) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	a := s.read(ctx, q.apiCall)
	<-s.slots
	messages, err := split(c, q, a)
	for _, m := range messages {
		if err == nil {
			err = c.NATS.Publish(q.subject(), m)
		}
	}
	if err != nil {
		s.o.Log.Debug().Err(err).Msg("a request of another box could not be answered")
	}
}

// reports are the paths of the control API that a report reads, callPath included. None of them
// changes anything, or has a text of a call.
var reports = []string{usagePath, callsPath, statusPath, boxesPath}

const (
	usagePath  = "/v1/usage"
	callsPath  = "/v1/calls"
	callPath   = "/v1/calls/" // and its id
	statusPath = "/v1/status"
	boxesPath  = "/v1/boxes"

	// cancelPath is the only command that another box may give.
	cancelPath = "/v1/calls/cancel"
)

// allowed reports whether another box may send a request.
func allowed(q apiCall, path string) bool {
	if q.Body != nil {
		return path == cancelPath
	}
	return slices.Contains(reports, path) || strings.HasPrefix(path, callPath) && path != cancelPath
}

// read sends a request to the control API of this box.
func (s *Service) read(ctx context.Context, q apiCall) answer {
	target, err := url.Parse(q.Path)
	if err != nil || !allowed(q, target.Path) {
		return problem(http.StatusNotFound, "its version of llmsup does not have this report")
	}
	method := http.MethodGet
	if q.Body != nil {
		method, ctx = http.MethodPost, control.AsOperator(ctx, q.By)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+control.Host+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return problem(http.StatusBadRequest, err.Error())
	}
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	s.o.API.ServeHTTP(w, r)
	if w.full {
		return problem(http.StatusInsufficientStorage, fmt.Sprintf("its answer has over %d MiB; ask for a shorter time, or for fewer groups", maxAnswer>>20))
	}
	if target.Path == statusPath {
		return withoutOutput(answer{w.status, w.body.Bytes()})
	}
	return answer{w.status, w.body.Bytes()}
}

// withoutOutput removes from a status what servers printed, which may quote a prompt.
func withoutOutput(a answer) answer {
	var status control.Status
	if a.status != http.StatusOK || json.Unmarshal(a.body, &status) != nil {
		return a
	}
	for i := range status.Servers {
		if exit := status.Servers[i].LastExit; exit != nil {
			exit.Tail = nil
		}
	}
	body, err := json.Marshal(status)
	if err != nil {
		return problem(http.StatusInternalServerError, err.Error())
	}
	return answer{a.status, body}
}

// problem returns the answer of a box that cannot answer, in the form of the control API.
func problem(status int, text string) answer {
	body, _ := json.Marshal(struct { // it can be encoded
		Error string `json:"error"`
	}{text})
	return answer{status, body}
}

// recorder keeps an answer of the control API.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
	full   bool // the answer is larger than maxAnswer
}

func (w *recorder) Header() http.Header    { return w.header }
func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(p []byte) (int, error) {
	if w.full = w.full || w.body.Len()+len(p) > maxAnswer; w.full {
		return 0, http.ErrContentLength
	}
	return w.body.Write(p)
}

// timeout is how long a Service waits for a box.
const timeout = 2 * time.Second
