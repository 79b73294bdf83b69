package router

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/router/backend"
	"github.com/llmsup/llmsup/router/boxes"
	"github.com/llmsup/llmsup/router/plan"
	"github.com/llmsup/llmsup/router/wire"
)

// fleet is a box that clients call, and others that have the same server.
type fleet struct {
	*fixture
	boxes  *boxes.Registry // as the first box sees them
	others []*fixture
	ready  boxes.Fleet
}

// shortTime is the timeout of the routes local/short and local/short-alone: enough for a call to come
// from box to box on a busy machine.
const shortTime = 3 * time.Second

// otherBodies is the limit of bodies on the other boxes; the first one's is higher.
const otherBodies = 1 << 20

// newFleet makes a fleet of box1, which has the cloud too, and of one box for each of the other
// behaviours: box2, box3, ...
func newFleet(t *testing.T, cloud, own http.HandlerFunc, others ...http.HandlerFunc) *fleet {
	t.Helper()
	f := &fleet{boxes: &boxes.Registry{}, ready: boxes.Fleet{Name: "box1"}}
	f.fixture = newFixture(t, own, cloud, func(c *plan.Config, routes map[string]models.Route) {
		c.Boxes = f.boxes
		routes["local/on-context_overflow"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: "context_overflow", Timeout: time.Minute}
		routes["local/on-unsupported"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: "unsupported", Timeout: time.Minute}
		routes["premium"] = models.Route{Primary: "openrouter", Fallback: "elsewhere", Timeout: time.Minute}
		routes["local/other-fallback"] = models.Route{Primary: "qwen", Fallback: "elsewhere", Timeout: time.Minute}
		routes["local/short-alone"] = models.Route{Primary: "qwen", Timeout: shortTime}
		routes["local/short"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: shortTime}
		routes["local/short-lost"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: "lost", Timeout: shortTime}
		routes["local/edited"] = models.Route{Primary: "qwen", Timeout: time.Minute, Edits: &models.Edits{Force: models.Parameters{"top_k": "40"}}}
		routes["local/elsewhere"] = models.Route{Primary: "elsewhere", Timeout: time.Minute}
		routes["local/resume"] = models.Route{Primary: "qwen", Fallback: "openrouter", Timeout: time.Minute, Resume: true}
		routes["local/lost"] = models.Route{Primary: "qwen", Fallback: "openrouter", FallbackOn: "lost", Timeout: time.Minute}
	})
	for i, behave := range others {
		name := fmt.Sprintf("box%d", i+2)
		here := &boxes.Registry{}
		here.Set(boxes.Fleet{Name: name, Verify: func(from, code string) bool { return from == "box1" && code == "code-for-"+name }})
		other := newFixture(t, behave, hangs, func(c *plan.Config, _ map[string]models.Route) {
			c.Boxes = here
			c.Bodies.Bytes = otherBodies
			c.Locals["elsewhere"] = c.Locals["qwen"]
			c.Locals["solo"], c.Locals["openrouter"] = c.Locals["qwen"], c.Locals["qwen"]
		})
		f.others = append(f.others, other)
		state := boxes.PeerState{Status: "ready", Slots: 4, Free: 4}
		f.ready.Boxes = append(f.ready.Boxes, boxes.Box{
			Name: name, Instance: "i", Address: other.url, Hop: "box1 code-for-" + name,
			Servers: map[string]boxes.PeerState{"qwen": state, "elsewhere": state},
		})
	}
	f.boxes.Set(f.ready)
	t.Cleanup(func() { f.boxes.Set(boxes.Fleet{}) })
	return f
}

// set replaces the announced state of a box.
func (f *fleet) set(box int, state boxes.PeerState) {
	f.ready.Boxes[box-2].Servers = map[string]boxes.PeerState{"qwen": state, "elsewhere": state}
	f.boxes.Set(f.ready)
}

func drained(s *backend.LocalState) {
	s.Reason, s.Detail, s.Alive, s.Returning = backend.Drained, "is drained", false, false
}

// begin makes a call whose answer nothing waits for.
func (b *fixture) begin(body string) {
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
}

// TestOtherBox: which box answers, and what the client is told.
func TestOtherBox(t *testing.T) {
	inKind := func(w http.ResponseWriter, r *http.Request) {
		writeAnswer(w, r, r.Header.Get("Accept") == "text/event-stream")
	}
	refuses := status(500, `{"error":{"message":"broken"}}`)
	for name, tc := range map[string]struct {
		model      string
		own, cloud http.HandlerFunc
		others     []http.HandlerFunc
		change     func(*fleet)
		backend    string
		reason     string
	}{
		"the own box can begin at once": {"local/qwen", inKind, hangs, []http.HandlerFunc{hangs}, func(*fleet) {}, "qwen", ""},
		"the own box is drained":        {"local/qwen", hangs, hangs, []http.HandlerFunc{inKind}, func(f *fleet) { f.state.edit(drained) }, "box2/qwen", "drained"},
		"the own box fails":             {"local/qwen", refuses, hangs, []http.HandlerFunc{inKind}, func(*fleet) {}, "box2/qwen", "status"},
		"two boxes fail":                {"local/qwen", refuses, hangs, []http.HandlerFunc{inKind, refuses}, func(f *fleet) { f.state.edit(drained) }, "box2/qwen", "drained"},
		"all boxes fail":                {"local/qwen", refuses, inKind, []http.HandlerFunc{refuses, refuses}, func(*fleet) {}, "openrouter", "status"},
		"the server is on another box":  {"local/elsewhere", hangs, hangs, []http.HandlerFunc{inKind}, func(*fleet) {}, "box2/elsewhere", ""},
		"fallback_on is for the cloud":  {"local/lost", refuses, hangs, []http.HandlerFunc{inKind}, func(*fleet) {}, "box2/qwen", "status"},
		"no fallback":                   {"local/alone", refuses, hangs, []http.HandlerFunc{inKind}, func(*fleet) {}, "box2/qwen", "status"},
		"a box drains without a word":   {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) { f.state.edit(drained); f.others[0].state.edit(drained) }, "openrouter", "drained"},
		"a box says that it drains":     {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) { f.state.edit(drained); f.set(2, boxes.PeerState{Status: "draining"}) }, "openrouter", "drained"},
		"a state of a newer version":    {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) { f.state.edit(drained); f.set(2, boxes.PeerState{Status: "hibernating"}) }, "openrouter", "drained"},
		"a box accepts no connection": {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) {
			f.state.edit(drained)
			f.ready.Boxes[0].Address = "http://127.0.0.1:1"
			f.boxes.Set(f.ready)
		}, "openrouter", "drained"},
		"a box does not accept the code": {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) { f.state.edit(drained); f.ready.Boxes[0].Hop = "box1 wrong"; f.boxes.Set(f.ready) }, "openrouter", "drained"},
		"the other box lacks the server": {"local/qwen", hangs, inKind, []http.HandlerFunc{hangs}, func(f *fleet) {
			f.state.edit(drained)
			f.ready.Boxes[0].Servers = map[string]boxes.PeerState{"other": {Status: "ready"}}
			f.boxes.Set(f.ready)
		}, "openrouter", "drained"},
		"the own box is busy": {"local/qwen", hangs, hangs, []http.HandlerFunc{inKind}, func(f *fleet) {
			f.state.edit(func(s *backend.LocalState) { s.Slots = 1 })
			f.begin(`{"model":"local/alone","stream":true}`)
			eventually(f.t, "the call has the slot", func() bool { return f.router.Load("qwen").Calls == 1 })
		}, "box2/qwen", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, tc.cloud, tc.own, tc.others...)
			tc.change(f)
			r := f.post("/v1/chat/completions", `{"model":"`+tc.model+`","messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.backend() != tc.backend || r.reason() != tc.reason {
				t.Errorf("%d from %q, reason %q; want %q, %q: %s", r.status, r.backend(), r.reason(), tc.backend, tc.reason, r.body)
			}
			f.local.CloseClientConnections()
		})
	}
}

// TestStreamContinuesOnOtherBox: a stream that breaks on one box continues on another one,
// and only then in the cloud.
func TestStreamContinuesOnOtherBox(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	begins := sends(breaks, firstChunk+textChunk(first)+textChunk(" 2"))
	continues := sends(ends, textChunk(" 3"), strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1), usageEvent, doneEvent)
	refuses := status(500, `{"error":{"message":"broken"}}`)
	for name, tc := range map[string]struct {
		own    http.HandlerFunc
		others []http.HandlerFunc
		cloud  http.HandlerFunc
		change func(*fleet)
		first  string // the backend of the stream
		by     string // the one that continues it
	}{
		"from the own box":  {begins, []http.HandlerFunc{continues}, hangs, func(*fleet) {}, "qwen", "box2/qwen"},
		"the next box, too": {begins, []http.HandlerFunc{refuses, continues}, hangs, func(f *fleet) { f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 9}) }, "qwen", "box3/qwen"},
		"from box to box": {hangs, []http.HandlerFunc{begins, continues}, hangs, func(f *fleet) {
			f.state.edit(drained)
			f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 99, Service: time.Hour})
		}, "box2/qwen", "box3/qwen"},
		"no box can continue it": {begins, []http.HandlerFunc{refuses}, continues, func(*fleet) {}, "qwen", "openrouter"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, tc.cloud, tc.own, tc.others...)
			tc.change(f)
			model := "local/qwen"
			if tc.by == "openrouter" {
				model = "local/resume"
			}
			r := f.post("/v1/chat/completions", `{"model":"`+model+`","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.readErr != nil || r.backend() != tc.first || !strings.Contains(r.body, ": resumed by "+tc.by+"\n") {
				t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
			}
			if got := streamText(t, r.body); got != first+" 2 3" {
				t.Errorf("the text is %q", got)
			}
		})
	}
}

// TestStreamMovesTwice: a continuation that breaks is continued, too, whichever way it breaks. The
// client has the whole text and the tokens of all parts.
func TestStreamMovesTwice(t *testing.T) {
	const first = " 1, of a list that is long enough,"
	finish := strings.Replace(finishChunk("stop"), "gen-9", "chatcmpl-1", 1)
	continues := sends(ends, textChunk(" 4"), finish, usageEvent, doneEvent)
	for name, tc := range map[string]struct {
		second http.HandlerFunc
		third  http.HandlerFunc // nil = it gets no call
		model  string
		text   string // after the first part
		by     string // the last one
		cloud  int    // calls
	}{
		"the connection breaks":   {sends(breaks, firstChunk+textChunk(" 2")+textChunk(" 3")), continues, "qwen", " 2 3 4", "box3/qwen", 0},
		"an error event":          {sends(ends, firstChunk+textChunk(" 2")+textChunk(" 3"), `data: {"error":{"message":"broken"}}`+"\n\n"), continues, "qwen", " 2 3 4", "box3/qwen", 0},
		"only the end is missing": {sends(breaks, firstChunk+textChunk(" 2")+finish), nil, "qwen", " 2", "box2/qwen", 0},
		"then the cloud":          {sends(breaks, firstChunk+textChunk(" 2")+textChunk(" 3")), status(500, `{}`), "resume", " 2 3 4", "openrouter", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, continues, sends(breaks, firstChunk+textChunk(first)), tc.second, tc.third)
			f.set(3, boxes.PeerState{Status: "ready", Slots: 1, Queued: 9})
			r := f.post("/v1/chat/completions", `{"model":"local/`+tc.model+`","stream":true,"stream_options":{"include_usage":true},"max_tokens":100,"messages":[{"role":"user","content":"count"}]}`)
			if r.status != 200 || r.readErr != nil || !strings.Contains(r.body, ": resumed by "+tc.by+"\n") || !strings.HasSuffix(r.body, doneEvent) {
				t.Fatalf("%d from %q, %v: %s", r.status, r.backend(), r.readErr, r.body)
			}
			if got := streamText(t, r.body); got != first+tc.text {
				t.Errorf("the text is %q", got)
			}
			if n := len(f.cloud.requests()); n != tc.cloud {
				t.Errorf("%d calls of the cloud", n)
			}
			if tc.third != nil && !strings.Contains(r.body, `"usage":{"prompt_tokens":4,"completion_tokens":6,`) { // the last part's prompt had the three tokens before it
				t.Errorf("the usage is not that of all parts: %s", r.body)
			}
		})
	}
}

// TestBoxRefuses: a box that has got more calls than it has announced refuses a call, which moves
// to the next box at once. If all refuse, the call waits where it expects the shortest wait, and
// moves on from there.
func TestBoxRefuses(t *testing.T) {
	f := newFleet(t, hangs, hangs, hangs, answers)
	all := []*fixture{f.fixture, f.others[0], f.others[1]}
	fill := func(box *fixture, calls int) {
		box.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
		box.begin(`{"model":"local/alone","messages":[]}`)
		eventually(t, "the box is full", func() bool { return len(box.local.requests()) > calls })
	}
	fill(all[0], 0)
	fill(all[1], 0)
	f.set(3, boxes.PeerState{Status: "ready", Slots: 4, Service: time.Second})
	if r := f.chat("local/alone", true); r.status != 200 || r.backend() != "box3/qwen" || r.reason() != "" {
		t.Errorf("%d from %s (%s)", r.status, r.backend(), r.reason())
	}
	for i, service := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second} {
		all[i].router.routing.Load().Server("qwen").Served(service)
	}
	all[2].local.behaves(hangs)
	fill(all[2], 1)
	f.begin(`{"model":"local/alone","messages":[]}`)
	eventually(t, "the call waits at box2", func() bool { return all[1].router.Load("qwen").Queued == 1 })
	all[1].state.transition(drained)
	eventually(t, "the call waits at box3", func() bool { return all[2].router.Load("qwen").Queued == 1 })
	all[2].state.transition(drained)
	eventually(t, "the call waits at its own box", func() bool { return all[0].router.Load("qwen").Queued == 1 })
}

// TestBodyOfRefusedCall: a long body is not sent to a box that refuses the call, and it is sent
// to the one that does not.
func TestBodyOfRefusedCall(t *testing.T) {
	var sent int64
	for range 5 { // the body is sent, too, if a busy machine is late with the refusal
		if sent = bytesOfRefusedCall(t); sent <= 4096 {
			return
		}
	}
	t.Errorf("the box that refused the call received %d bytes", sent)
}

// bytesOfRefusedCall makes a call with a long body, which box2 refuses, and returns how many bytes
// box2 received.
func bytesOfRefusedCall(t *testing.T) int64 {
	t.Helper()
	f := newFleet(t, hangs, hangs, hangs, answers)
	for _, box := range []*fixture{f.fixture, f.others[0]} {
		box.state.transition(func(s *backend.LocalState) { s.Slots = 1 })
		box.begin(`{"model":"local/alone","messages":[]}`)
		eventually(t, "the box is full", func() bool { return len(box.local.requests()) == 1 })
	}
	received := countBytes(t, &f.ready.Boxes[0].Address)
	f.set(3, boxes.PeerState{Status: "ready", Slots: 4, Service: time.Second})
	body := fmt.Sprintf(`{"model":"local/alone","messages":[{"role":"user","content":%q}]}`, strings.Repeat("word ", 50_000))
	if r := f.post("/v1/chat/completions", body); r.status != 200 || r.backend() != "box3/qwen" {
		t.Errorf("%d from %s: %s", r.status, r.backend(), r.body)
	}
	if n := len(f.others[1].local.lastBody()); n < 200_000 {
		t.Errorf("the box that answered received %d bytes", n)
	}
	n := received.Load()
	if n == 0 {
		t.Error("the box that refuses the call was not asked")
	}
	return n
}

// countBytes puts a relay before a server, and counts what it sends there.
func countBytes(t *testing.T, address *string) *atomic.Int64 {
	t.Helper()
	server := strings.TrimPrefix(*address, "http://")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	*address = "http://" + listener.Addr().String()
	sent := &atomic.Int64{}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(client, there); _ = client.Close() }()
			go func() { _, _ = io.Copy(there, io.TeeReader(client, counter{sent})); _ = there.Close() }()
		}
	}()
	return sent
}

// counter counts what is written to it.
type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// TestHopIsRejected: without a box's own code no client makes a call as a box, and a box makes
// nothing but calls of its models.
func TestHopIsRejected(t *testing.T) {
	f := newFleet(t, hangs, hangs, answers)
	other := f.others[0]
	hop := func(text string) []string { return []string{wire.HeaderHop, text} }
	for name, tc := range map[string]struct {
		path, hop string
		status    int
	}{
		"right":                {"/v1/chat/completions", "box1 code-for-box2 qwen move 60000", 200},
		"another code":         {"/v1/chat/completions", "box1 code-for-box3 qwen move 60000", 403},
		"another box":          {"/v1/chat/completions", "box3 code-for-box2 qwen move 60000", 403},
		"incomplete":           {"/v1/chat/completions", "box1 code-for-box2", 403},
		"no time":              {"/v1/chat/completions", "box1 code-for-box2 qwen move 0", 403},
		"a wait":               {"/v1/chat/completions", "box1 code-for-box2 qwen move 60000 0", 200},
		"no number for a wait": {"/v1/chat/completions", "box1 code-for-box2 qwen move 60000 x", 403},
		"of a later version":   {"/v1/chat/completions", "box1 code-for-box2 qwen move 60000 0 0", 200},
		"no number":            {"/v1/chat/completions", "box1 code-for-box2 qwen move 1e3", 403},
		"another server":       {"/v1/chat/completions", "box1 code-for-box2 openrouter wait 60000", 503},
		"the metrics":          {"/metrics", "box1 code-for-box2 qwen move 60000", 404},
		"an operator's path":   {"/slots", "box1 code-for-box2 qwen move 60000", 404},
		"the list of models":   {"/v1/models", "box1 code-for-box2 qwen move 60000", 404},
		"a path of the server": {"/tokenize", "box1 code-for-box2 qwen wait 60000", 200},
	} {
		if r := other.post(tc.path, `{"messages":[]}`, hop(tc.hop)...); r.status != tc.status {
			t.Errorf("%s: %d, want %d: %s", name, r.status, tc.status, r.body)
		}
	}
	for _, r := range other.local.requests() {
		if r.header.Get(wire.HeaderHop) != "" {
			t.Error("the engine has received the code")
		}
	}
	for _, r := range other.cloud.requests() {
		t.Errorf("the cloud has received %s", r.path)
	}
}

// TestServerOnOtherBoxOnly: what a box says of a server that it does not have itself.
func TestServerOnOtherBoxOnly(t *testing.T) {
	f := newFleet(t, hangs, hangs, answers)
	status := func() string {
		return gjson.Get(f.send("GET", "/v1/models/local/elsewhere", "").body, "status").Str
	}
	if got := status(); got != "ready" {
		t.Errorf("the model is %q", got)
	}
	f.state.edit(drained)
	if r := f.send("GET", "/health", ""); r.status != 200 {
		t.Errorf("another box answers, and the health is %d: %s", r.status, r.body)
	}
	if routes := f.router.RoutesWithoutFallback([]string{"qwen"}); len(routes) != 0 {
		t.Errorf("a drain is warned of, and another box answers: %q", routes)
	}
	f.set(2, boxes.PeerState{Status: "loading"})
	if got := status(); got != "loading" {
		t.Errorf("the model is %q", got)
	}
	f.ready.Boxes = nil
	f.boxes.Set(f.ready)
	if routes := f.router.RoutesWithoutFallback([]string{"qwen"}); len(routes) == 0 {
		t.Error("no other box answers, and a drain is not warned of")
	}
	if r := f.chat("local/elsewhere", false); r.status != 503 || !strings.Contains(r.body, "elsewhere is not on this box, and no other box of the fleet has it") {
		t.Errorf("%d: %s", r.status, r.body)
	}
}

// TestWaitOnOtherBox: a call whose only server is being loaded on another box waits there.
func TestWaitOnOtherBox(t *testing.T) {
	f := newFleet(t, hangs, hangs, answers)
	f.others[0].state.transition(loading)
	f.set(2, boxes.PeerState{Status: "loading"})
	answered := make(chan reply, 1)
	go func() { answered <- f.chat("local/elsewhere", false) }()
	eventually(t, "the call waits on the other box", func() bool { return f.others[0].router.Load("elsewhere").ForModel == 1 })
	f.others[0].state.transition(ready)
	if r := <-answered; r.status != 200 || r.backend() != "box2/elsewhere" {
		t.Errorf("%d from %q: %s", r.status, r.backend(), r.body)
	}
}

// TestHopIsCountedOnce: the box that the client called records the call, and the other one
// counts that it came.
func TestHopIsCountedOnce(t *testing.T) {
	f := newFleet(t, hangs, hangs, answers)
	f.state.edit(drained)
	if r := f.chat("local/alone", false); r.status != 200 {
		t.Fatalf("%d: %s", r.status, r.body)
	}
	other := f.others[0]
	f.waitIdle()
	other.waitIdle()
	const calls = `llmsup_calls_total{backend="`
	if page := f.send("GET", "/metrics", "").body; !strings.Contains(page, calls+"box2/qwen") || !strings.Contains(page, "llmsup_calls_from_boxes_total 0") {
		t.Errorf("the box that was called has not counted the call:\n%s", page)
	}
	if page := other.send("GET", "/metrics", "").body; strings.Contains(page, calls) || !strings.Contains(page, "llmsup_calls_from_boxes_total 1") {
		t.Errorf("the other box has counted the call:\n%s", page)
	}
	if !strings.Contains(other.log.String(), `"from_box":"box1"`) {
		t.Errorf("the other box has not logged where the call came from: %s", other.log)
	}
}
