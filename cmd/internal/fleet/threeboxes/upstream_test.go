package threeboxes

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/usd"
)

// upstream is a paid upstream. It counts as the demo model does, continues an answer that has
// begun, and knows what it has billed for each call. The user of a call is its id.
type upstream struct {
	url   string
	mu    sync.Mutex
	bills map[string]usd.Amount
	total usd.Amount
	limit usd.Amount // the budget of the fleet
	over  int        // calls that exceeded it
	last  time.Time  // of the last bill
	twice []string   // calls that it got more than once
}

// newUpstream starts an upstream on the bridge. It ends with the test. limit is the budget of
// the fleet.
func newUpstream(t *testing.T, limit usd.Amount) *upstream {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", testAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{limit: limit, bills: map[string]usd.Amount{}}
	server := httptest.NewUnstartedServer(u)
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

// tokenPrice is what a token of an answer costs at most.
const tokenPrice = 10 * usd.Dollar / 1_000_000

// bill bills a call with an answer of n tokens, and returns the amount.
func (u *upstream) bill(id string, n int) usd.Amount {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, again := u.bills[id]; again {
		u.twice = append(u.twice, id)
	}
	amount := 1 + usd.Amount(rand.Int64N(int64(tokenPrice)*int64(n)))
	u.bills[id] += amount
	u.last = time.Now()
	if u.total += amount; u.total > u.limit {
		u.over++
	}
	return amount
}

// slowest is the longest time of an answer, so that some are under way at each fault.
const slowest = 300 * time.Millisecond

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		http.NotFound(w, r) // it has no list of models
		return
	}
	body := gjson.ParseBytes(raw)
	first, n := 1, int(body.Get("max_tokens").Int())
	messages := body.Get("messages").Array()
	if last := messages[len(messages)-1]; last.Get("role").Str == "assistant" {
		text := last.Get("content").Str
		counted, _ := strconv.Atoi(text[strings.LastIndexByte(text, ' ')+1:])
		first = counted + 1
	}
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":1,"completion_tokens":%d,"cost":%s}`, n, u.bill(body.Get("user").Str, n))
	pause := rand.N(slowest / 2)
	u.wait(r, pause)
	if !body.Get("stream").Bool() {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"chat.completion","choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","content":%q}}],%s}`, count(first, n), usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for i := range n {
		fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" %d\"}}]}\n\n", first+i)
		_ = http.NewResponseController(w).Flush()
		u.wait(r, pause/time.Duration(n))
	}
	fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: {\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
}

// wait is the time that an answer takes.
func (u *upstream) wait(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// count returns the numbers that an answer has.
func count(first, n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, " %d", first+i)
	}
	return text.String()
}
