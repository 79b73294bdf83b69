package router

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/budget"
	"github.com/llmsup/llmsup/router/inflight"
	"github.com/llmsup/llmsup/router/ledger"
	"github.com/llmsup/llmsup/router/ledger/journal"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// only returns the call in flight, once it has reached a phase at a backend.
func (b *fixture) only(at string, phase inflight.Phase) (now inflight.Snapshot) {
	b.t.Helper()
	eventually(b.t, "a call is "+string(phase)+" at "+at, func() bool {
		calls := b.router.InFlight().Snapshot()
		if len(calls) != 1 {
			return false
		}
		now = calls[0]
		return now.Phase == phase && now.Backend == at
	})
	return now
}

func callOf(model string, stream bool) string {
	return fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"x"}]}`, model, stream)
}

// lastCall returns the row of the call that ended last.
func (b *fixture) lastCall() ledger.Row {
	b.t.Helper()
	b.waitIdle()
	rows := b.router.InFlight().Ended(1)
	if len(rows) != 1 {
		b.t.Fatal("no call has ended")
	}
	return rows[0]
}

// TestCancelCall: an operator cancels a call at each of its stages. The client gets an error,
// the backend is cancelled, and no other one is asked.
func TestCancelCall(t *testing.T) {
	stream := func(last http.HandlerFunc, parts ...string) http.HandlerFunc { return sends(last, parts...) }
	waits := func(c *plan.Config, routes map[string]models.Route) {
		r := routes["local/qwen"]
		r.WhileLoading = models.WaitForTimeout
		routes["local/qwen"] = r
	}
	load := func(b *fixture) { b.state.edit(loading) }
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		model        string
		stream       bool
		before       func(*fixture)
		edits        []func(*plan.Config, map[string]models.Route)
		at           string
		phase        inflight.Phase
		begun        bool // the client has received a part of the answer
		paid         bool
		attempts     int
	}{
		"prefill":                   {hangs, nil, "local/qwen", false, nil, nil, "qwen", inflight.Sent, false, false, 1},
		"prefill of a stream":       {hangs, nil, "local/qwen", true, nil, nil, "qwen", inflight.Sent, false, false, 1},
		"a stream":                  {stream(hangs, firstChunk, textChunk(" 1"), textChunk(" 2")), nil, "local/qwen", true, nil, nil, "qwen", inflight.Answering, true, false, 1},
		"a whole answer arrives":    {stream(hangs, firstChunk, textChunk(" 1")), nil, "local/qwen", false, nil, nil, "qwen", inflight.Sent, false, false, 1},
		"the fallback's prefill":    {breaks, hangs, "local/qwen", false, nil, nil, "openrouter", inflight.Sent, false, true, 2},
		"a paid stream":             {nil, stream(hangs, firstChunk, textChunk(" 1")), "gpt-4o", true, nil, nil, "openrouter", inflight.Answering, true, true, 1},
		"a continuation":            {stream(breaks, firstChunk, textChunk(" 1")), stream(hangs, roleEvent), "local/qwen", true, nil, nil, "openrouter", inflight.Sent, true, true, 2},
		"waiting for the model":     {answers, answers, "local/qwen", false, load, []func(*plan.Config, map[string]models.Route){waits}, "qwen", inflight.WaitingForModel, false, false, 1},
		"a stream that waits begun": {answers, answers, "local/qwen", true, load, []func(*plan.Config, map[string]models.Route){waits, keepAliveAt(time.Millisecond)}, "qwen", inflight.WaitingForModel, true, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit, acct := withLedger(t, budget.Limits{})
			b := newFixture(t, tc.local, tc.cloud, append(tc.edits, withResume, edit)...)
			if tc.before != nil {
				tc.before(b)
			}
			got, begun := make(chan reply, 1), make(chan struct{})
			go func() {
				resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(callOf(tc.model, tc.stream))) //nolint:noctx // the call is cancelled
				if err != nil {
					got <- reply{readErr: err}
					return
				}
				defer resp.Body.Close()
				close(begun)
				body, err := io.ReadAll(resp.Body)
				got <- reply{resp.StatusCode, resp.Header, string(body), err}
			}()
			now := b.only(tc.at, tc.phase)
			if tc.begun {
				<-begun
			}
			at, sent := map[string]*fakeBackend{"qwen": b.local, "openrouter": b.cloud}[tc.at], tc.phase != inflight.WaitingForModel
			if sent {
				eventually(t, tc.at+" has the request", func() bool { return len(at.requests()) > 0 })
			}
			asked := len(b.cloud.requests())
			began := time.Now()
			if cancelled, _ := b.router.InFlight().Cancel(now.ID().String()); len(cancelled) != 1 {
				t.Fatalf("%d calls were cancelled", len(cancelled))
			}
			if sent {
				<-at.requestEnded
			}
			if took := time.Since(began); took > atOnce {
				t.Errorf("the backend was cancelled after %s", took)
			}
			r := <-got
			if took := time.Since(began); took > 2*atOnce {
				t.Errorf("the client waited for %s", took)
			}
			if n := len(b.cloud.requests()); n != asked {
				t.Errorf("the cloud was asked %d times more", n-asked)
			}
			b.wantCancelled(r, tc.stream && tc.begun)
			b.wantCancelledRow(tc.attempts, tc.paid, tc.at)
			usage := usageBy(t, acct, ledger.ByRoute).Total
			if usage.Calls != 1 || usage.Partial != 1 || usage.Paid != map[bool]int64{true: 1}[tc.paid] {
				t.Errorf("the ledger has %s", summary(usage))
			}
		})
	}
}

// wantCancelled checks what the client of a cancelled call received.
func (b *fixture) wantCancelled(r reply, begun bool) {
	b.t.Helper()
	if !begun {
		e := gjson.Get(r.body, "error")
		if r.status != 499 || r.readErr != nil || r.header.Get(wire.HeaderShouldRetry) != "false" || e.Get("code").Str != "cancelled" ||
			e.Get("message").Str != "an operator cancelled this call" {
			b.t.Errorf("the client got %d %q, %v, %v", r.status, r.body, r.header, r.readErr)
		}
		return
	}
	events := strings.Split(strings.TrimSpace(r.body), "\n\n")
	last := strings.TrimPrefix(events[len(events)-1], "data: ")
	if r.readErr == nil || gjson.Get(last, "error.code").Str != "cancelled" || strings.Contains(r.body, "[DONE]") {
		b.t.Errorf("the client got %q, %v", r.body, r.readErr)
	}
}

// wantCancelledRow checks the row and the log line of a cancelled call.
func (b *fixture) wantCancelledRow(attempts int, paid bool, at string) {
	b.t.Helper()
	row := b.lastCall()
	if row.Status != 499 || !row.Partial || row.Paid != paid || len(row.Attempts) != attempts {
		b.t.Errorf("the row is %+v", row)
	}
	if last := row.Attempts[len(row.Attempts)-1]; last.Detail != "cancelled by an operator" || last.Backend != at || last.Status != 499 {
		b.t.Errorf("the last attempt is %+v", last)
	}
	if text := b.log.String(); !strings.Contains(text, "cancelled by an operator") || strings.Contains(text, `"cut"`) {
		b.t.Errorf("the log is %s", text)
	}
}

// TestCancelClientThatDoesNotRead: the backend of a call whose client reads nothing is
// cancelled at once, and the call ends soon.
func TestCancelClientThatDoesNotRead(t *testing.T) {
	cancelled := make(chan struct{})
	b := newFixture(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(cancelled)
		w.Header().Set("Content-Type", "text/event-stream")
		for chunk := textChunk(strings.Repeat("x", 60<<10)); r.Context().Err() == nil; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	}, nil)
	resp, err := http.Post(b.url+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"local/alone","stream":true,"messages":[{"role":"user","content":"x"}]}`)) //nolint:noctx // the call is cancelled
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	now := b.only("qwen", inflight.Answering)
	before := int64(-1)
	eventually(t, "the client's buffers are full", func() bool {
		sent := b.router.InFlight().Snapshot()[0].Bytes
		full := sent == before && sent > 0
		before = sent
		time.Sleep(20 * time.Millisecond)
		return full
	})
	began := time.Now()
	b.router.InFlight().Cancel(now.Request)
	<-cancelled
	if took := time.Since(began); took > atOnce {
		t.Errorf("the backend was cancelled after %s", took)
	}
	if row := b.lastCall(); row.Status != 499 {
		t.Errorf("the row is %+v", row)
	}
}

// TestAttempts: what the ledger has about the attempts at a call.
func TestAttempts(t *testing.T) {
	down := status(http.StatusInternalServerError, `{"error":{"message":"no"}}`)
	for name, tc := range map[string]struct {
		local, cloud http.HandlerFunc
		model        string
		stream       bool
		before       func(*backend.LocalState)
		want         string
	}{
		"local":           {answers, nil, "local/qwen", false, ready, "[]"},
		"unknown model":   {answers, nil, "nothing", false, ready, "[]"},
		"fallback":        {down, answers, "local/qwen", false, ready, `[{"backend":"qwen","model":"qwen","reason":"status","status":500,"ms":0,"cost_usd":0,"detail":"answered 500"},{"backend":"openrouter","model":"qwen/qwen-2.5-14b-instruct","status":200,"ms":0,"cost_usd":0.013}]`},
		"bypassed":        {answers, answers, "local/qwen", false, loading, `[{"backend":"qwen","reason":"loading","ms":0,"cost_usd":null,"skipped":true,"detail":"is loading"},{"backend":"openrouter","model":"qwen/qwen-2.5-14b-instruct","status":200,"ms":0,"cost_usd":0.013}]`},
		"no fallback":     {down, nil, "local/alone", false, ready, `[{"backend":"qwen","model":"qwen","reason":"status","status":500,"ms":0,"cost_usd":0,"detail":"answered 500"}]`},
		"resumed":         {sends(breaks, firstChunk, textChunk(" 1")), sends(ends, roleEvent, textEvent, finalEvent, usageEvent, doneEvent), "local/qwen", true, ready, `[{"backend":"qwen","model":"qwen","reason":"lost","status":200,"ms":0,"cost_usd":0,"detail":"lost the connection in the middle of the answer"},{"backend":"openrouter","model":"qwen/qwen-2.5-14b-instruct","status":200,"ms":0,"cost_usd":0.013}]`},
		"a broken stream": {sends(breaks, firstChunk, textChunk(" 1")), nil, "local/alone", true, ready, `[{"backend":"qwen","model":"qwen","status":200,"ms":0,"cost_usd":0,"detail":"the answer was truncated: unexpected EOF"}]`},
		"an unknown cost": {down, sends(ends, roleEvent, textEvent, finalEvent, doneEvent), "local/qwen", true, ready, `[{"backend":"qwen","model":"qwen","reason":"status","status":500,"ms":0,"cost_usd":0,"detail":"answered 500"},{"backend":"openrouter","model":"qwen/qwen-2.5-14b-instruct","status":200,"ms":0,"cost_usd":null}]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit, _ := withLedger(t, budget.Limits{})
			b := newFixture(t, tc.local, tc.cloud, withResume, edit)
			b.state.edit(tc.before)
			b.post("/v1/chat/completions", `{"model":"`+tc.model+`","stream":`+map[bool]string{true: "true", false: "false"}[tc.stream]+`,"messages":[{"role":"user","content":"x"}]}`)
			attempts := b.lastCall().Attempts
			for i := range attempts {
				if attempts[i].MS > waitLimit.Milliseconds() {
					t.Errorf("%d ms", attempts[i].MS)
				}
				attempts[i].MS = 0
			}
			if got := "[]"; len(attempts) > 0 || tc.want != got {
				if got = journal.AttemptsJSON(attempts); got != tc.want {
					t.Errorf("the attempts are\n%s, want\n%s", got, tc.want)
				}
			}
		})
	}
}
