package router

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/plan"
)

// gatedServer is a fixture whose local server has some slots, and answers a call when the
// test allows it.
type gatedServer struct {
	*fixture
	proceed     chan struct{} // each receive answers one call
	arrived     chan string   // the calls as they come, by their "user"
	mu          sync.Mutex
	busySlots   int  // slots that the server reports as busy; -1 = as many as calls
	idleReports int  // how often it reports that none are
	takeSlots   bool // calls that arrive make one more slot busy
	changed     chan struct{}
}

func newGatedServer(t *testing.T, slots int, edits ...func(*plan.Config, map[string]models.Route)) *gatedServer {
	t.Helper()
	l := &gatedServer{proceed: make(chan struct{}), arrived: make(chan string, 1000), changed: make(chan struct{})}
	l.fixture = newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slots" {
			l.mu.Lock()
			defer l.mu.Unlock()
			var list []string
			for i := range slots {
				list = append(list, fmt.Sprintf(`{"is_processing":%t}`, i < l.busySlots && l.idleReports == 0))
			}
			l.idleReports = max(l.idleReports-1, 0)
			_, _ = io.WriteString(w, "["+strings.Join(list, ",")+"]")
			return
		}
		if r.URL.Path == "/tokenize" {
			_, _ = io.WriteString(w, `{"tokens":[1]}`)
			return
		}
		l.mu.Lock()
		if l.takeSlots {
			l.busySlots++
		}
		l.mu.Unlock()
		l.arrived <- gjson.GetBytes(l.local.lastBody(), "user").Str
		select {
		case <-l.proceed:
			answers(w, r)
		case <-r.Context().Done():
		}
	}, answers, edits...)
	l.state.edit(func(s *backend.LocalState) { s.Slots, s.Changed = slots, l.changed })
	return l
}

// startChat makes a call in the background.
func (l *gatedServer) startChat(ctx context.Context, model, user string) <-chan reply {
	return l.startBody(ctx, fmt.Sprintf(`{"model":%q,"user":%q,"messages":[]}`, model, user))
}

func (l *gatedServer) startBody(ctx context.Context, body string) <-chan reply {
	return l.startPost(ctx, "/v1/chat/completions", body)
}

func (l *gatedServer) startPost(ctx context.Context, path, body string) <-chan reply {
	done := make(chan reply, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.url+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			done <- reply{readErr: err}
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		done <- reply{resp.StatusCode, resp.Header, string(got), err}
	}()
	return done
}

// waitQueued waits until so many calls are in the queue.
func (l *gatedServer) waitQueued(n int) {
	l.t.Helper()
	l.waitLoad(fmt.Sprintf("%d queued", n), func(now Load) bool { return now.Queued == n })
}

func (l *gatedServer) waitLoad(what string, ok func(Load) bool) {
	l.t.Helper()
	eventually(l.t, what, func() bool { return ok(l.router.Load("qwen")) })
}

// setBusySlots sets how many slots the server reports as busy.
func (l *gatedServer) setBusySlots(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busySlots = n
}
