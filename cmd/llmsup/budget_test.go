package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/router/usd"
)

const (
	tokenPrice = usd.Dollar / 100_000 // of a generated token of vendor/..., in picodollars
	// unknownTokenPrice is that of a token of a model whose price is unknown.
	unknownTokenPrice = 75 * usd.Dollar / 1_000_000

	budgetOfAKey  = usd.Dollar / 20 // 0.05 USD a day
	manyTokens    = 16_000          // of an answer that nothing limits: 0.16 USD
	defaultTokens = 4_096           // that llmsup reserves for such an answer
)

// budgetCase is calls of one key with a budget of its own.
type budgetCase struct {
	body    string // fields of the call after model and messages
	calls   int    // at once; 0 = 50
	stops   bool   // the client closes the connection after the first event
	answer  func(body gjson.Result, send func(string), gone <-chan struct{}) (tokens int)
	least   int  // tokens that a call is charged for at least, if the cloud reports too few
	inLimit bool // the cloud obeys the limit of tokens, so that all calls are answered

	unpriced bool // the price of the model is unknown
}

// obeys answers as a cloud that obeys only the limits of OpenAI's chat completions, and
// reports usage without a cost.
func obeys(body gjson.Result, send func(string), _ <-chan struct{}) int {
	tokens := manyTokens
	body.ForEach(func(key, limit gjson.Result) bool {
		if key.Str == "max_tokens" || key.Str == "max_completion_tokens" {
			if tokens = manyTokens; limit.Type == gjson.Number && limit.Num > 0 {
				tokens = int(limit.Num)
			}
		}
		return true
	})
	send(wholeAnswer(" word", fmt.Sprintf(`{"prompt_tokens":1,"completion_tokens":%d}`, tokens)))
	return tokens
}

var budgetCases = map[string]budgetCase{
	"n-predict":         {body: `"n_predict":1`, answer: obeys},
	"max-output-tokens": {body: `"max_output_tokens":1`, answer: obeys},
	"capitals":          {body: `"MAX_TOKENS":1`, answer: obeys},
	"camel-case":        {body: `"maxTokens":1`, answer: obeys},
	"in-quotes":         {body: `"max_tokens":"1"`, answer: obeys},
	"null":              {body: `"max_tokens":null`, answer: obeys},
	"below-zero":        {body: `"max_tokens":-1`, answer: obeys},
	"twice":             {body: `"max_tokens":1,"max_completion_tokens":null,"max_tokens":null`, answer: obeys},
	"in-options":        {body: `"options":{"max_tokens":1}`, answer: obeys},
	"obeyed":            {body: `"max_tokens":1`, answer: obeys, inLimit: true},
	"escaped":           {body: `"max\u005ftokens":1.0`, answer: obeys, inLimit: true},

	"neither price nor cost": {body: `"max_tokens":100`, answer: obeys, unpriced: true},

	"dropped": {calls: 1, body: `"stream":true,"max_tokens":10`, answer: func(_ gjson.Result, send func(string), _ <-chan struct{}) int {
		send(streamHead + tokenEvents(manyTokens))
		return manyTokens
	}},
	"stopped by its client": {body: `"stream":true`, stops: true, answer: func(_ gjson.Result, send func(string), gone <-chan struct{}) int {
		send(streamHead + tokenEvents(50))
		<-gone
		return 50
	}},
	"a stream without usage": {calls: 1, body: `"stream":true,"max_tokens":10`, answer: func(_ gjson.Result, send func(string), _ <-chan struct{}) int {
		send(streamHead + tokenEvents(manyTokens) + streamEnd)
		return manyTokens
	}},
	"an answer without usage": {calls: 1, body: `"max_tokens":10`, answer: func(_ gjson.Result, send func(string), _ <-chan struct{}) int {
		send(wholeAnswer(strings.Repeat(" word", manyTokens), ""))
		return manyTokens
	}},
	"3 MB of text and no usage": {calls: 1, body: `"max_tokens":10`, answer: func(_ gjson.Result, send func(string), _ <-chan struct{}) int {
		send(wholeAnswer(strings.Repeat("text", 750_000), ""))
		return 750_000
	}},
	"3 MB of text and a usage of one token": {calls: 1, body: `"max_tokens":10`, answer: func(_ gjson.Result, send func(string), _ <-chan struct{}) int {
		send(wholeAnswer(strings.Repeat("text", 750_000), `{"prompt_tokens":1,"completion_tokens":1}`))
		return 750_000
	}, least: 3_000_000 / 16},
}

// TestBudgetAgainstAdversaries: for every body of a call and every answer of an upstream,
// a budget counts at least what was used, at its price, and at most one call's
// reservation more. Once it is spent calls are rejected, also after kill -9 and after a
// restart.
func TestBudgetAgainstAdversaries(t *testing.T) {
	t.Parallel()
	cloud := newRawUpstream(t, func(body gjson.Result, send func(string), gone <-chan struct{}) int {
		return budgetCases[caseOf(body.Get("model").Str)].answer(body, send, gone)
	})
	var config strings.Builder
	fmt.Fprintf(&config, "upstreams:\n  cloud: {base_url: %q, api_key_env: TEST_OPENROUTER_KEY}\nroutes:\n  \"vendor/*\": {primary: cloud}\nkeys:\n", cloud.url+"/v1")
	keys, budgets, prices := map[string]string{}, "budget:\n  per_key:\n", "prices:\n  cloud:\n"
	for i, name := range slices.Sorted(maps.Keys(budgetCases)) {
		keys[name] = fmt.Sprintf("test-key-%d", i)
		fmt.Fprintf(&config, "  k%d: {sha256: \"%x\"}\n", i, sha256.Sum256([]byte(keys[name])))
		budgets += fmt.Sprintf("    k%d: {daily: 0.05}\n", i)
		if !budgetCases[name].unpriced {
			prices += fmt.Sprintf("    %q: {prompt: 0, completion: 1e-5}\n", modelOfCase(name))
		}
	}
	file := newTestConfig(t, config.String()+budgets+prices)
	state := shortDir(t)
	start := func() *instance {
		return launchIn(t, state, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--log-level", "info")
	}
	in := start()
	var cases sync.WaitGroup
	for name, c := range budgetCases {
		cases.Go(func() {
			var calls sync.WaitGroup
			var answered, rejected int
			var mu sync.Mutex
			for i := range 50 {
				if c.calls > 0 && i%c.calls == 0 {
					calls.Wait()
				}
				calls.Go(func() {
					status := in.spend(keys[name], modelOfCase(name), c)
					mu.Lock()
					defer mu.Unlock()
					if status == http.StatusOK {
						answered++
					} else if rejected++; status != http.StatusTooManyRequests {
						t.Errorf("%s: status %d", name, status)
					}
				})
			}
			calls.Wait()
			if c.inLimit != (rejected == 0) || answered == 0 {
				t.Errorf("%s: %d calls answered, %d rejected", name, answered, rejected)
			}
		})
	}
	cases.Wait()
	in.budgetsAreRight(cloud, keys, "")
	if err := in.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-in.done
	in = start()
	in.budgetsAreRight(cloud, keys, " after kill -9")
	in.stop()
	in = start()
	in.budgetsAreRight(cloud, keys, " after a restart")
}

func modelOfCase(name string) string { return "vendor/" + strings.ReplaceAll(name, " ", "_") }
func caseOf(model string) string {
	return strings.ReplaceAll(strings.TrimPrefix(model, "vendor/"), "_", " ")
}

// spend makes a call of a case and returns its status.
func (in *instance) spend(key, model string, c budgetCase) int {
	ctx, cancel := context.WithTimeout(in.t.Context(), testTimeout)
	defer cancel()
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"x"}],%s}`, model, c.body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		in.t.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		in.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	if c.stops {
		_, _ = resp.Body.Read(make([]byte, 100))
		return resp.StatusCode
	}
	_, _ = io.Copy(io.Discard, resp.Body) // a stream that is dropped breaks
	return resp.StatusCode
}

// budgetsAreRight compares the budgets with what the cloud has generated, and checks
// that a spent budget rejects the next call.
func (in *instance) budgetsAreRight(cloud *rawUpstream, keys map[string]string, when string) {
	in.t.Helper()
	for i, name := range slices.Sorted(maps.Keys(budgetCases)) {
		c := budgetCases[name]
		tokens, calls := cloud.generated(modelOfCase(name))
		price := tokenPrice
		if c.unpriced {
			price = unknownTokenPrice
		}
		used := usd.Amount(tokens) * price
		if c.least > 0 {
			used = usd.Amount(calls*c.least) * price
		}
		spent := in.spentBy(fmt.Sprintf("k%d", i), used)
		if most := usd.Amount(tokens)*price*4/3 + defaultTokens*tokenPrice; spent < used || spent > most {
			in.t.Errorf("%s%s: the budget counts %s; %d tokens in %d calls cost %s", name, when, spent, tokens, calls, used)
		}
		if used > budgetOfAKey+defaultTokens*tokenPrice && calls > 1 && used/usd.Amount(calls) < budgetOfAKey {
			in.t.Errorf("%s%s: %d calls have spent %s", name, when, calls, used)
		}
		if !c.inLimit {
			if status := in.spend(keys[name], modelOfCase(name), c); status != http.StatusTooManyRequests {
				in.t.Errorf("%s%s: the next call has status %d", name, when, status)
			}
		}
	}
}

// spentBy waits until a key has no running call and its budget includes what was spent
// before the start, and returns what the budget counts.
func (in *instance) spentBy(key string, want usd.Amount) (spent usd.Amount) {
	in.t.Helper()
	if !eventually(testTimeout, func() bool {
		s, err := in.client.Status(in.t.Context())
		if err != nil {
			return false
		}
		for _, b := range s.Budgets {
			if b.Key == key {
				spent = usd.Amount(b.Spent)
				return b.Reserved == 0 && spent >= want
			}
		}
		return false
	}) {
		in.t.Errorf("key %q: no more than %s of %s is spent", key, spent, want)
	}
	return spent
}

// TestBudgetOfCallsUnderWay: what was reserved for the calls that are under way when
// llmsup is killed, or stopped at once, counts after the next start.
func TestBudgetOfCallsUnderWay(t *testing.T) {
	t.Parallel()
	var under sync.WaitGroup
	cloud := newRawUpstream(t, func(_ gjson.Result, send func(string), gone <-chan struct{}) int {
		send(streamHead + tokenEvents(50))
		under.Done()
		<-gone
		return 50
	})
	file := newTestConfig(t, fmt.Sprintf(`
upstreams:
  cloud: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  "vendor/*": {primary: cloud}
budget: {daily: 0.05}
prices: {cloud: {vendor/x: {prompt: 0, completion: 1e-5}}}
`, cloud.url))
	state := shortDir(t)
	start := func() *instance {
		return launchIn(t, state, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--log-level", "info")
	}
	const reserved = 500 * tokenPrice // a call
	in := start()
	want := usd.Amount(0)
	for name, end := range map[string]func(){
		"kill -9": func() { _ = in.cmd.Process.Kill() },
		"two signals": func() {
			_ = in.cmd.Process.Signal(syscall.SIGINT)
			in.awaitLog("stopping")
			_ = in.cmd.Process.Signal(syscall.SIGINT)
		},
	} {
		under.Add(4)
		for range 4 {
			go func() {
				req, _ := http.NewRequest(http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(`{"model":"vendor/x","stream":true,"max_tokens":500,"messages":[]}`))
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}()
		}
		under.Wait()
		end()
		<-in.done
		want += 4 * reserved
		in = start()
		if spent := in.spentBy("", want); spent != want {
			t.Errorf("%s: the budget counts %s, want %s", name, spent, want)
		}
	}
	if r := in.post("/v1/chat/completions", `{"model":"vendor/x","max_tokens":1100,"messages":[]}`); r.status != http.StatusTooManyRequests {
		t.Errorf("a call beyond the budget: %d %s", r.status, r.body)
	}
}
