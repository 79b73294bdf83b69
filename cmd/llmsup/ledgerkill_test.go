package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/router/ledger/ledgertest"
	"github.com/llmsup/llmsup/router/usd"
)

const (
	callsPerSecond = 500
	// reservedTokens limits the answer of a call, so that reservedTokens*tokenPrice is
	// reserved for it.
	reservedTokens = 100
	reservedOfCall = reservedTokens * tokenPrice
	// slowest is the longest time that the upstream takes for an answer, so that there are
	// always running calls.
	slowest = 20 * time.Millisecond
	// maxUnderWay limits the running calls if the machine is too slow for callsPerSecond.
	maxUnderWay = 512
)

// recordingUpstream is an upstream that records what it bills for each call. The user of
// a call is its request id.
type recordingUpstream struct {
	*httptest.Server
	mu    sync.Mutex
	bills map[string]usd.Amount // of paid calls, by request
	twice []string              // paid calls that were repeated
}

func newRecordingUpstream(t *testing.T) *recordingUpstream {
	t.Helper()
	u := &recordingUpstream{bills: map[string]usd.Amount{}}
	u.Server = httptest.NewServer(http.HandlerFunc(u.answer))
	t.Cleanup(u.Close)
	return u
}

// answer bills calls below /paid. The usage of vendor/cost has the cost, that of
// vendor/tokens only the tokens.
func (u *recordingUpstream) answer(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		http.NotFound(w, r) // it has no list of models
		return
	}
	call := gjson.ParseBytes(raw)
	tokens := 1 + rand.IntN(reservedTokens)
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":11,"completion_tokens":%d}`, tokens)
	if strings.HasPrefix(r.URL.Path, "/paid/") {
		bill := usd.Amount(tokens) * tokenPrice
		if call.Get("model").Str == "vendor/cost" {
			bill = 1 + usd.Amount(rand.Int64N(int64(usd.Dollar/1000)))
			usage = fmt.Sprintf(`"usage":{"prompt_tokens":11,"completion_tokens":%d,"cost":%s}`, tokens, bill)
		}
		u.bill(call.Get("user").Str, bill)
	}
	pause := func() {
		select {
		case <-time.After(rand.N(slowest / 2)):
		case <-r.Context().Done():
		}
	}
	pause()
	if !call.Get("stream").Bool() {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":" 1 2"}}],%s}`, usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 1\"}}]}\n\n")
	_ = http.NewResponseController(w).Flush()
	pause()
	fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 2\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
}

func (u *recordingUpstream) bill(request string, amount usd.Amount) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, again := u.bills[request]; again {
		u.twice = append(u.twice, request)
	}
	u.bills[request] = amount
}

// clients make calls to one llmsup after the other, and record the outcome of each call.
type clients struct {
	t *testing.T

	mu       sync.Mutex
	calls    int             // so many were made, and are numbered from 0
	answered map[string]bool // by request: true = its client has the whole answer
	lastPaid int             // highest number of a paid call with a whole answer
	exempt   map[int]bool    // numbers of calls while the journal hung: calls don't wait for that
}

// isExempt returns whether a call came while the journal hung.
func (c *clients) isExempt(request string) bool {
	var number int
	_, err := fmt.Sscanf(request, "call-%d", &number)
	return err == nil && c.exempt[number]
}

// begin numbers a call.
func (c *clients) begin() (number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return c.calls - 1
}

// end keeps the outcome of a call.
func (c *clients) end(number int, request string, paid, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered[request] = whole
	if paid && whole {
		c.lastPaid = max(c.lastPaid, number)
	}
}

// awaitPaid waits until a paid call that begins from now on has its whole answer.
func (c *clients) awaitPaid() bool {
	c.mu.Lock()
	next := c.calls
	c.mu.Unlock()
	return eventually(testTimeout, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.lastPaid >= next
	})
}

// load makes calls at a rate until ctx ends, and returns when all have ended. It omits
// calls beyond maxUnderWay.
func (c *clients) load(ctx context.Context, in *instance) {
	transport := &http.Transport{MaxIdleConnsPerHost: callsPerSecond}
	defer transport.CloseIdleConnections()
	var calls sync.WaitGroup
	defer calls.Wait()
	underWay := make(chan struct{}, maxUnderWay)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	due, began := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ; float64(due) < time.Since(began).Seconds()*callsPerSecond; due++ {
			select {
			case underWay <- struct{}{}:
			default:
				continue
			}
			number := c.begin()
			calls.Go(func() {
				defer func() { <-underWay }()
				request := fmt.Sprintf("call-%06d", number)
				model := []string{"vendor/cost", "free/a", "vendor/tokens", "free/b"}[number%4]
				whole := c.call(in, transport, request, model, number%3 == 0)
				c.end(number, request, strings.HasPrefix(model, "vendor/"), whole)
			})
		}
	}
}

// call makes a call and reports whether its client got the whole answer. The end of
// the load does not cancel it: only the kill cuts a call.
func (c *clients) call(in *instance, transport *http.Transport, request, model string, stream bool) (whole bool) {
	ctx, cancel := context.WithTimeout(c.t.Context(), testTimeout)
	defer cancel()
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":%d,"user":%q,"messages":[{"role":"user","content":"count"}]}`, model, stream, reservedTokens, request)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return false
	}
	req.GetBody = nil // the transport must not send a call again
	req.Header.Set("Authorization", "Bearer client-secret")
	req.Header.Set("X-Request-Id", request)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return false
	}
	if resp.StatusCode != http.StatusOK || stream && !strings.HasSuffix(string(answer), "data: [DONE]\n\n") {
		c.t.Errorf("%s: the answer came to a clean end with status %d: %s", request, resp.StatusCode, answer)
	}
	return true
}

// TestKilledUnderLoad: llmsup is killed at random moments under 500 calls a second,
// every other time with its database locked. Each call whose client got the whole
// answer has one row, with what the upstream billed. A paid call that was under way
// has one row too, with what was billed or what was reserved. After a restart the
// budgets equal the rows.
//
// It is killed 20 times, or LLMSUP_TEST_KILLS times.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 20
	if kills := os.Getenv("LLMSUP_TEST_KILLS"); kills != "" {
		var err error
		if rounds, err = strconv.Atoi(kills); err != nil {
			t.Fatal(err)
		}
	}
	u := newRecordingUpstream(t)
	file := newTestConfig(t, fmt.Sprintf(`
keys:
  tool: {sha256: %x}
upstreams:
  openrouter: {base_url: "%s/paid/v1", api_key_env: TEST_OPENROUTER_KEY}
  lab: {base_url: "%s/v1"}
routes:
  "vendor/*": {primary: openrouter}
  "free/*": {primary: lab}
prices:
  openrouter:
    vendor/cost: {prompt: 0, completion: 1e-5}
    vendor/tokens: {prompt: 0, completion: 1e-5}
budget: {daily: 1000, monthly: 10000, per_key: {tool: {daily: 1000}}}
`, sha256.Sum256([]byte("client-secret")), u.URL, u.URL))
	state := shortDir(t)
	start := func() *instance {
		return launchIn(t, state, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--log-level", "info")
	}
	c := &clients{t: t, answered: map[string]bool{}, exempt: map[int]bool{}}
	began := time.Now()
	in := start()
	var underLoad time.Duration
	for round := range rounds {
		underLoad += c.killed(in, round)
		in = start()
		if round%25 == 0 {
			in.budgetsEqualRows()
		}
	}
	in.budgetsEqualRows()
	in.stop()
	c.compare(u, ledgertest.Calls(t, state))
	start().budgetsEqualRows()
	t.Logf("%d rounds in %s, %.0f calls a second for %s of it", rounds, time.Since(began).Round(time.Second),
		float64(c.calls)/underLoad.Seconds(), underLoad.Round(time.Second))
}

// killed kills llmsup under load, and returns how long the load lasted.
func (c *clients) killed(in *instance, round int) time.Duration {
	ctx, cancel := context.WithCancel(c.t.Context())
	first := c.calls
	var load sync.WaitGroup
	load.Go(func() { c.load(ctx, in) })
	began := time.Now()
	unlock := func() {}
	if round%2 == 1 {
		unlock = lockLedger(c.t, in.state)
	}
	delay := 50*time.Millisecond + rand.N(350*time.Millisecond)
	if round%4 > 1 { // llmsup may still be reading the spool of the killed process
		delay = rand.N(100 * time.Millisecond)
	} else if !c.awaitPaid() {
		c.t.Errorf("round %d: paid calls are not answered", round)
	}
	<-time.After(delay) // the random time of the kill is what the test varies
	if err := in.cmd.Process.Kill(); err != nil {
		c.t.Error(err)
	}
	<-in.done
	took := time.Since(began)
	cancel()
	load.Wait()
	unlock()
	in.mu.Lock()
	if log := in.log.String(); strings.Contains(log, "hangs: check its disk") || strings.Contains(log, "cannot be written") {
		c.t.Logf("round %d: the disk hung, so its calls are not compared", round)
		for n := first; n < c.calls; n++ {
			c.exempt[n] = true
		}
	}
	in.log.Reset() // a failed test would print the lines of all calls
	in.mu.Unlock()
	return took
}

// compare compares the rows with what the clients got and the upstream billed.
func (c *clients) compare(u *recordingUpstream, calls []ledgertest.Call) {
	c.t.Helper()
	rows := map[string]int{}
	var unfinished int
	for _, row := range calls {
		whole, made := c.answered[row.Request]
		bill, billed := u.bills[row.Request]
		if rows[row.Request]++; rows[row.Request] == 2 {
			c.t.Errorf("%s is in the ledger twice", row.Request)
		}
		switch {
		case c.isExempt(row.Request):
		case !made:
			c.t.Errorf("%s is in the ledger, and no client made this call", row.Request)
		case row.Status == http.StatusOK && !row.Partial && row.Cost != nil && *row.Cost == bill && row.Charged == bill && row.Paid == billed:
		case !whole && row.Paid && row.Partial && row.Cost == nil && row.Charged == reservedOfCall:
			unfinished++
		default:
			c.t.Errorf("whole answer: %t; the upstream billed %s (%t), the ledger has %+v", whole, bill, billed, row)
		}
	}
	var answered, paid int
	missing := map[string]int{}
	for request, whole := range c.answered {
		_, billed := u.bills[request]
		switch {
		case whole && billed:
			paid++
			answered++
		case whole:
			answered++
		}
		if (whole || billed) && rows[request] == 0 && !c.isExempt(request) {
			missing[fmt.Sprintf("whole answer: %t, billed: %t", whole, billed)]++
		}
	}
	for what, n := range missing {
		c.t.Errorf("%d calls are not in the ledger; %s", n, what)
	}
	if len(u.twice) > 0 {
		c.t.Errorf("the upstream got these calls twice: %s", strings.Join(u.twice, ", "))
	}
	if unfinished == 0 || paid == 0 || answered == paid {
		c.t.Error("there were no paid answers, no free ones, or no calls under way")
	}
	c.t.Logf("%d calls, %d answered, %d of them paid; %d rows, %d of them of calls under way at a death", c.calls, answered, paid, len(calls), unfinished)
}

// budgetsEqualRows waits until each budget counts what the rows of its window were
// charged. No calls are made meanwhile.
func (in *instance) budgetsEqualRows() {
	in.t.Helper()
	in.usage() // which has the rows committed soon
	var differences []string
	if !eventually(testTimeout, func() bool {
		calls := ledgertest.Calls(in.t, in.state)
		s, err := in.client.Status(in.t.Context())
		if err != nil {
			in.t.Error(err)
			return true
		}
		differences = nil
		for _, b := range s.Budgets {
			from := b.Ends.AddDate(0, 0, -1)
			if b.Period == "monthly" {
				from = b.Ends.AddDate(0, -1, 0)
			}
			var charged usd.Amount
			for _, call := range calls {
				if !call.Time.Before(from) && (b.Key == "" || b.Key == call.Key) {
					charged += call.Charged
				}
			}
			if usd.Amount(b.Spent) != charged || b.Reserved != 0 {
				differences = append(differences, fmt.Sprintf("%q %s counts %s and %s reserved, the rows %s", b.Key, b.Period, usd.Amount(b.Spent), usd.Amount(b.Reserved), charged))
			}
		}
		return len(s.Budgets) == 3 && differences == nil
	}) {
		in.t.Errorf("budgets and rows differ:\n%s", strings.Join(differences, "\n"))
	}
}

// lockLedger takes SQLite's write lock, as another program that hangs in the middle of a
// transaction does.
func lockLedger(t *testing.T, state string) (unlock func()) {
	t.Helper()
	const writeLock = 120 // of SQLite's WAL index (walformat, 2.3.1)
	shm, err := os.OpenFile(filepath.Join(state, "ledger", "ledger.db-shm"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: writeLock, Len: 1}
	if err := unix.FcntlFlock(shm.Fd(), unix.F_SETLKW, &lock); err != nil {
		t.Fatal(err)
	}
	return func() { _ = shm.Close() }
}
