package router

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/wire"
)

// fill gives the only slot of a box to a call. The gate ends that call; then the box behaves as then
// says.
func (b *fixture) fill(then http.HandlerFunc) (gate chan struct{}) {
	b.t.Helper()
	gate = make(chan struct{})
	b.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
	b.local.behaves(after(gate))
	b.begin(`{"model":"local/alone","messages":[]}`)
	eventually(b.t, "the box is full", func() bool { return len(b.local.requests()) == 1 })
	b.local.behaves(then)
	return gate
}

const (
	brokenText  = " 1, of a list that is long enough,"
	countStream = `,"stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`
)

var (
	beginsStream    = sends(breaks, firstChunk+textChunk(brokenText)+textChunk(" 2"))
	continuesStream = sends(ends, textChunk(" 3"), strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1), usageEvent, doneEvent)
)

// wantContinued checks a stream of " 1 2 3" that two backends have made.
func (f *fleet) wantContinued(r reply, first, by string) {
	f.t.Helper()
	if r.status != 200 || r.readErr != nil || r.backend() != first || !strings.Contains(r.body, ": resumed by "+by+"\n") {
		f.t.Errorf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
		return
	}
	if got := streamText(f.t, r.body); got != brokenText+" 2 3" {
		f.t.Errorf("the text is %q", got)
	}
}

// TestStreamContinuesWhereItWasRefused: boxes that had no free slot when the call was asked around
// continue its stream, after those that have one.
func TestStreamContinuesWhereItWasRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		third http.HandlerFunc // of a box that comes after the one that begins; nil = it has no free slot either
		by    string
	}{
		"no other box has a slot": {nil, "qwen"},
		"another box has one":     {continuesStream, "box3/qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, hangs, hangs, beginsStream, hangs)
			own := f.fill(continuesStream)
			f.router.routing.Load().Server("qwen").Served(2 * time.Second)
			if tc.third == nil {
				f.others[1].fill(hangs)
				f.others[1].router.routing.Load().Server("qwen").Served(time.Minute)
			} else {
				f.others[1].local.behaves(tc.third)
			}
			f.set(3, boxes.PeerState{Status: "ready", Slots: 4, Free: 4, PromptRate: 1}) // slower than box2
			answered := make(chan reply, 1)
			go func() { answered <- f.post("/v1/chat/completions", `{"model":"local/qwen"`+countStream) }()
			if tc.third == nil {
				eventually(t, "the call waits at its own box", func() bool { return f.router.Load("qwen").Queued == 1 })
				close(own)
			}
			f.wantContinued(<-answered, "box2/qwen", tc.by)
			f.local.CloseClientConnections()
		})
	}
}

// TestStreamBreaksLate: a stream that breaks after the route's time, in which its answer had to begin,
// continues on another box.
func TestStreamBreaksLate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, hangs, sends(func(w http.ResponseWriter, r *http.Request) {
		outlast(shortTime)
		breaks(w, r)
	}, firstChunk+textChunk(brokenText)+textChunk(" 2")), continuesStream)
	f.wantContinued(f.post("/v1/chat/completions", `{"model":"local/short"`+countStream), "qwen", "box2/qwen")
}

// TestWholeAnswerBreaksLate: the same holds for an answer that is not a stream.
func TestWholeAnswerBreaksLate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, answers, sends(func(w http.ResponseWriter, r *http.Request) {
		outlast(shortTime)
		breaks(w, r)
	}, firstChunk+textChunk(brokenText)+textChunk(" 2")), continuesStream)
	f.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
	r := f.post("/v1/chat/completions", strings.Replace(`{"model":"local/short"`+countStream, `"stream":true,`, "", 1))
	if r.status != 200 || r.backend() != "box2/qwen" || len(f.cloud.requests()) > 0 {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestEditedCallAtLoad: the box that loads the model for a call gets it with the route's edits.
func TestEditedCallAtLoad(t *testing.T) {
	f := newFleet(t, hangs, answers, hangs)
	f.others[0].fill(hangs)
	f.others[0].router.routing.Load().Server("qwen").Served(time.Minute)
	f.state.transition(func(s *backend.LocalState) { unloaded(s); s.LoadsIn = time.Second })
	answered := make(chan reply, 1)
	go func() { answered <- f.chat("local/edited", false) }()
	eventually(t, "the call waits for the model", func() bool { return f.router.Load("qwen").ForModel == 1 })
	f.state.transition(ready)
	if r := <-answered; r.status != 200 || r.backend() != "qwen" || !strings.Contains(string(f.local.lastBody()), `"top_k":40`) {
		t.Errorf("%d from %q with %s", r.status, r.backend(), f.local.lastBody())
	}
}

// TestSlotlessHop: a box whose slots are busy takes a call that needs none.
func TestSlotlessHop(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	other := f.others[0]
	other.fill(answers)
	for path, want := range map[string]int{"/tokenize": 200, "/v1/messages/count_tokens": 200, "/v1/chat/completions": 429} {
		if r := other.post(path, `{"messages":[]}`, wire.HeaderHop, "box1 code-for-box2 qwen move 60000 0"); r.status != want {
			t.Errorf("%s: %d: %s", path, r.status, r.body)
		}
	}
}

// TestRefusedBodyIsRead: a body that is sent without asking is read to its end, so that the
// connection, which may be that of a proxy, can be used again.
func TestRefusedBodyIsRead(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	other := f.others[0]
	other.fill(hangs)
	body := `{"messages":[{"role":"user","content":"` + strings.Repeat("word ", 100_000) + `"}]}`
	for call := range 3 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, other.url+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(wire.HeaderHop, "box1 code-for-box2 qwen move 60000 0")
		resp, err := other.local.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusTooManyRequests || reused != (call > 0) {
			t.Errorf("call %d: %d, on a connection that was used before: %t", call, resp.StatusCode, reused)
		}
	}
}

// countedConn counts the bytes that are read from a connection.
type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

type countedListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countedConn{conn, l.bytes}, err
}

// TestRefusedBodyIsNotSent: a long body is sent to a box only once that takes the call, over HTTP and
// over HTTPS.
func TestRefusedBodyIsNotSent(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			var sent int64
			for range 5 { // the body is sent, too, if a busy machine is late with the refusal
				if sent = bytesToBusyBox(t, scheme); sent <= 50_000 {
					return
				}
			}
			t.Errorf("the busy box received %d bytes", sent)
		})
	}
}

// bytesToBusyBox makes calls with a long body until the busy box2 is asked, and returns how many bytes
// box2 received.
func bytesToBusyBox(t *testing.T, scheme string) int64 {
	t.Helper()
	f := newFleet(t, hangs, hangs, hangs, func(w http.ResponseWriter, r *http.Request) { writeAnswer(w, r, false) })
	busy, received := f.others[0], atomic.Int64{}
	busy.fill(hangs)
	f.state.edit(drained)
	front := httptest.NewUnstartedServer(busy.router)
	front.Listener = countedListener{front.Listener, &received}
	if scheme == "https" {
		front.StartTLS()
		f.ready.TLS = front.Client().Transport.(*http.Transport).TLSClientConfig
	} else {
		front.Start()
	}
	t.Cleanup(front.Close)
	f.ready.Boxes[0].Address = front.URL
	f.boxes.Set(f.ready)
	body := `{"model":"local/qwen","messages":[{"role":"user","content":"` + strings.Repeat("word ", 100_000) + `"}]}`
	eventually(t, "the busy box was asked", func() bool {
		if r := f.post("/v1/chat/completions", body); r.status != 200 || r.backend() != "box3/qwen" {
			t.Fatalf("%d from %q: %s", r.status, r.backend(), r.body)
		}
		return received.Load() > 0
	})
	return received.Load()
}

// TestRefusedCallIsNoCall: a box that refuses a call which another box has asked it to begin does not
// count it, and does not log it.
func TestRefusedCallIsNoCall(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs)
	other := f.others[0]
	other.fill(hangs)
	other.state.edit(func(s *backend.LocalState) { s.Slots = 2 })
	r := other.post("/v1/chat/completions", `{"messages":[],"n":2}`, wire.HeaderHop, "box1 code-for-box2 qwen move 60000 0")
	if r.status != 429 || r.header.Get(wire.HeaderWait) == "" { // known only once it has the body
		t.Errorf("%d, %v: %s", r.status, r.header, r.body)
	}
	eventually(t, "the call has ended", func() bool { return other.router.Inflight() == 1 })
	if page := other.send("GET", "/metrics", "").body; !strings.Contains(page, "llmsup_calls_from_boxes_total 0") || strings.Contains(other.log.String(), "from_box") {
		t.Errorf("the call was counted or logged: %s", other.log)
	}
}

// TestWholeAnswerContinuesOnFreeBox: a broken answer of a call without a stream continues on a box
// that has a free slot, and waits at none before. If none has one, it waits where that is the
// shortest.
func TestWholeAnswerContinuesOnFreeBox(t *testing.T) {
	half := sends(breaks, localFirst+localChunk(longText, "1")+localChunk(" 2", "2"))
	rest := status(200, `{"id":"gen-9","choices":[{"message":{"role":"assistant","content":" 3 4"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)
	for name, tc := range map[string]struct {
		third http.HandlerFunc // nil = box3 has no free slot either
		by    string
	}{
		"box3 has a free slot": {rest, "box3/qwen"},
		"no box has one":       {nil, "box3/qwen"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, hangs, half, rest, tc.third)
			f.state.edit(func(s *backend.LocalState) { s.SupportsAggregation = true })
			f.others[0].fill(rest)
			f.others[0].router.routing.Load().Server("qwen").Served(10 * time.Second)
			var gate chan struct{}
			if tc.third == nil {
				gate = f.others[1].fill(rest)
				f.others[1].router.routing.Load().Server("qwen").Served(time.Second)
			}
			f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 9}) // box2 is asked first
			answered := make(chan reply, 1)
			go func() {
				answered <- f.post("/v1/chat/completions", strings.Replace(nonStreamingCall, "local/qwen", "local/alone", 1))
			}()
			if gate != nil {
				eventually(t, "the call waits at box3", func() bool { return f.others[1].router.Load("qwen").Queued == 1 })
				close(gate)
			}
			r := <-answered
			if text := gjson.Get(r.body, "choices.0.message.content").Str; r.backend() != tc.by || text != longText+" 2 3 4" {
				t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
			}
			if n := len(f.others[0].local.requests()); n != 1 {
				t.Errorf("box2 got %d calls", n)
			}
		})
	}
}

// TestWaitLongerThanTimeout: without a fallback, a call waits where that is the shortest, also if that
// is longer than the route's timeout: it has no better place to wait.
func TestWaitLongerThanTimeout(t *testing.T) {
	t.Parallel()
	f := newFleet(t, hangs, hangs, hangs, hangs)
	all := []*fixture{f.fixture, f.others[0], f.others[1]}
	gates := make([]chan struct{}, len(all))
	for i, service := range []time.Duration{30 * time.Second, 10 * time.Second, 20 * time.Second} {
		gates[i] = all[i].fill(answers)
		all[i].router.routing.Load().Server("qwen").Served(service)
	}
	answered := make(chan reply, 1)
	go func() { answered <- f.chat("local/short-alone", false) }()
	eventually(t, "the call waits at box2", func() bool { return all[1].router.Load("qwen").Queued == 1 })
	outlast(2 * shortTime)
	if n := all[1].router.Load("qwen").Queued; n != 1 {
		t.Error("the call did not wait at box2 for longer than the timeout")
	}
	all[1].state.transition(drained)
	eventually(t, "the call waits at box3", func() bool { return all[2].router.Load("qwen").Queued == 1 })
	close(gates[2])
	if r := <-answered; r.status != 200 || r.backend() != "box3/qwen" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestLoadRatherThanError: a box loads the model if all that have it fail.
func TestLoadRatherThanError(t *testing.T) {
	f := newFleet(t, hangs, status(500, `{"error":{"message":"broken"}}`), answers)
	there := f.others[0]
	there.state.transition(unloaded)
	f.set(2, boxes.PeerState{Status: "unloaded", LoadsIn: time.Second})
	answered := make(chan reply, 1)
	go func() { answered <- f.chat("local/alone", false) }()
	eventually(t, "the model is wanted", func() bool { return len(there.state.received()) > 0 })
	there.state.transition(ready)
	if r := <-answered; r.status != 200 || r.backend() != "box2/qwen" || r.reason() != "status" {
		t.Errorf("%d from %q (%s): %s", r.status, r.backend(), r.reason(), r.body)
	}
}
