package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/router/usd"
)

// billing plays an upstream that writes a bill for each call, of some picodollars,
// and keeps it.
type billing struct {
	*httptest.Server
	mu    sync.Mutex
	bills map[string]usd.Amount // by model: each call has one of its own
	twice []string
}

func newBilling(t *testing.T) *billing {
	t.Helper()
	b := &billing{bills: map[string]usd.Amount{}}
	b.Server = httptest.NewServer(http.HandlerFunc(b.answer))
	b.Config.ErrorLog = nil
	t.Cleanup(b.Close)
	return b
}

func (b *billing) answer(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	model := gjson.GetBytes(raw, "model").Str
	if err != nil || model == "" {
		http.NotFound(w, r) // the list of models: there is none
		return
	}
	cost := usd.Amount(1 + rand.Int64N(int64(usd.Dollar/1000)))
	b.mu.Lock()
	if _, again := b.bills[model]; again {
		b.twice = append(b.twice, model)
	}
	b.bills[model] += cost
	b.mu.Unlock()
	usage := fmt.Sprintf(`"usage":{"prompt_tokens":11,"completion_tokens":2,"cost":%s}`, cost)
	if !gjson.GetBytes(raw, "stream").Bool() {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"choices":[{"index":0,"finish_reason":"stop","message":{"content":" 1 2"}}],%s}`, usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range []string{
		`{"choices":[{"index":0,"delta":{"content":" 1"}}]}`, `{"choices":[{"index":0,"delta":{"content":" 2"},"finish_reason":"stop"}]}`,
		`{"choices":[],` + usage + `}`, "[DONE]",
	} {
		fmt.Fprintf(w, "data: %s\n\n", event)
		_ = http.NewResponseController(w).Flush()
	}
}

// mortal is a llmsup that is killed again and again, and comes back at the same
// place.
type mortal struct {
	t       *testing.T
	in      atomic.Pointer[instance]
	deaths  []time.Time
	spilled int // deaths with rows beside a locked database
	again   func() *instance
}

// kill ends it without a word, and starts it anew. locked keeps it from its
// database for a while before, so that rows are beside it when it dies.
func (m *mortal) kill(locked bool) {
	in := m.in.Load()
	unlock := func() {}
	if locked {
		unlock = lockLedger(m.t, in.state)
		if eventually(patience, func() bool {
			s, err := in.client.Status(m.t.Context())
			return err != nil || s.Ledger.Condition == "spilling"
		}) {
			m.spilled++
		}
	}
	m.deaths = append(m.deaths, time.Now())
	if err := in.cmd.Process.Kill(); err != nil {
		m.t.Error(err)
	}
	<-in.done
	unlock()
	next := m.again()
	if locked { // else it may be killed each time before it has loaded, and local answers nothing
		next.awaitReady()
	}
	m.in.Store(next)
}

// lockLedger takes SQLite's lock of a writer, as another program does that hangs in
// the middle of a transaction.
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

func eventually(most time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// TestKilledBooks: llmsup is killed at random under mixed calls, every other time
// with its database locked. Each answer that its client got the whole of stands in
// the ledger once, with what the upstream took for it.
//
// It is 2,000 calls, or 10,000 where LLMSUP_TEST_REAL_TIMES is set.
func TestKilledBooks(t *testing.T) {
	t.Parallel()
	calls := 2_000
	if os.Getenv("LLMSUP_TEST_REAL_TIMES") != "" {
		calls = 10_000
	}
	b := newBilling(t)
	file := newEditable(t, fmt.Sprintf(`
servers:
  box: {model: %s}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box}
`, smallModel(t), b.URL))
	state := shortDir(t)
	m := &mortal{t: t, again: func() *instance {
		return launchIn(t, state, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--log-level", "info")
	}}
	m.in.Store(m.again())

	ids := make(chan int)
	var mu sync.Mutex
	whole := map[string]bool{}
	var free []time.Time // when free calls were answered
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for id := range ids {
				model := fmt.Sprintf("vendor/call-%05d", id)
				if id%5 == 0 {
					model = "local/box"
				}
				if !m.in.Load().wholly(t, model, id%2 == 0) {
					continue
				}
				mu.Lock()
				if whole[model] = true; model == "local/box" {
					free = append(free, time.Now())
				}
				mu.Unlock()
			}
		})
	}
	next := rand.IntN(calls / 20)
	for id := range calls {
		if id == next {
			m.kill(len(m.deaths)%2 == 1)
			next += 1 + rand.IntN(calls/6)
		}
		ids <- id
	}
	close(ids)
	callers.Wait()
	m.kill(true)

	out, err := exec.Command("llmsup", "usage", "--by", "model", "--json", "--control-socket", filepath.Join(state, "c.sock")).Output()
	if err != nil {
		t.Fatalf("llmsup usage: %v", err)
	}
	var paid, billed usd.Amount
	seen := map[string]bool{}
	gjson.GetBytes(out, "groups").ForEach(func(_, group gjson.Result) bool {
		name := group.Get("name").Str
		if name == "local/box" {
			if n, least := int(group.Get("calls").Int()), len(free)-lastBefore(free, m.deaths); n < least {
				t.Errorf("%d free calls in the ledger, of at least %d", n, least)
			}
			return true
		}
		seen[name] = true
		cost, err := usd.Parse(group.Get("cost_usd").Raw)
		if err != nil || group.Get("calls").Int() != 1 {
			t.Errorf("%s: %v, %s", name, err, group.Raw)
		}
		if whole[name] {
			paid, billed = paid+cost, billed+b.bills[name]
			if cost != b.bills[name] {
				t.Errorf("%s cost %s by the ledger, %s by the upstream", name, cost, b.bills[name])
			}
		}
		return true
	})
	for name := range whole {
		if name != "local/box" && !seen[name] {
			t.Errorf("%s was answered and is not in the ledger", name)
		}
	}
	if len(b.twice) > 0 {
		t.Errorf("paid twice: %s", strings.Join(b.twice, ", "))
	}
	if paid != billed || len(whole) < calls/3 || len(m.deaths) < 4 || m.spilled < 2 || len(free) == 0 {
		t.Errorf("%d whole answers, %d of them free; paid %s, billed %s; %d deaths, %d of them with rows beside the database",
			len(whole), len(free), paid, billed, len(m.deaths), m.spilled)
	}
	t.Logf("%d calls, %d whole paid answers, %d free ones, %d of them shortly before a death, %s USD paid and billed; killed %d times, %d of them with rows beside the database",
		calls, len(whole)-1, len(free), lastBefore(free, m.deaths), paid, len(m.deaths), m.spilled)
}

// lastBefore counts the free calls that were answered shortly before a death. Only
// a paid answer waits for its row to be on the disk; the row of a free one is
// written a moment later, and a death in that moment loses it.
func lastBefore(free, deaths []time.Time) (n int) {
	const moment, noticed = 500 * time.Millisecond, 50 * time.Millisecond
	for _, at := range free {
		if slices.ContainsFunc(deaths, func(death time.Time) bool { return death.Sub(at) < moment && at.Sub(death) < noticed }) {
			n++
		}
	}
	return n
}

// wholly makes a call and says whether its client got the whole of an answer.
func (in *instance) wholly(t *testing.T, model string, stream bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":2,"messages":[{"role":"user","content":"count"}]}`, model, stream)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return false
	}
	req.GetBody = nil // a call that is sent again is another one
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK && (!stream || strings.HasSuffix(string(answer), "data: [DONE]\n\n"))
}
