package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// countingCloud answers as the demo model does, also if it has to continue an answer,
// and counts the calls of each user.
type countingCloud struct {
	*httptest.Server
	mu   sync.Mutex
	paid map[string]int // by the call's "user"
}

func newCountingCloud(t *testing.T) *countingCloud {
	t.Helper()
	c := &countingCloud{paid: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.answer))
	t.Cleanup(c.Close)
	return c
}

func (c *countingCloud) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet { // its list of models, for their prices: it has none
		http.NotFound(w, r)
		return
	}
	raw, _ := io.ReadAll(r.Body)
	body := gjson.ParseBytes(raw)
	c.mu.Lock()
	c.paid[body.Get("user").Str]++
	c.mu.Unlock()
	next := 1
	messages := body.Get("messages").Array()
	if last := messages[len(messages)-1]; last.Get("role").Str == "assistant" {
		words := strings.Fields(last.Get("content").Str)
		n, _ := strconv.Atoi(words[len(words)-1])
		next = n + 1
	}
	limit := int(body.Get("max_tokens").Int())
	if !body.Get("stream").Bool() {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":"gen","object":"chat.completion","choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","content":%q}}],"usage":{"prompt_tokens":1,"completion_tokens":%d}}`,
			countFrom(next, limit), limit)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ": OPENROUTER PROCESSING\n\n")
	for i := range limit {
		fmt.Fprintf(w, "data: {\"id\":\"gen\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\" %d\"}}]}\n\n", next+i)
	}
	fmt.Fprint(w, "data: {\"id\":\"gen\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n")
}

func countFrom(first, n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, " %d", first+i)
	}
	return text.String()
}

// TestChaos: llama-server is killed, stopped, restarted and drained at random times under
// mixed calls. No call fails, has a wrong word, or is paid for twice.
//
// There are 40 calls a second until each of the four was done three times, or eight times if
// LLMSUP_TEST_LONG is set.
func TestChaos(t *testing.T) {
	t.Parallel()
	rate, rounds := 40, 3
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		rounds = 8
	}
	if wanted, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_CHAOS_RATE")); err == nil {
		rate = wanted
	}
	c := newCountingCloud(t)
	file := newTestConfig(t, fmt.Sprintf(`
servers:
  box: {model: %s, ctx_size: 32768, stall_timeout: 2s, args: [-np, "8"]}
upstreams:
  openrouter: {base_url: "%s/v1", api_key_env: TEST_OPENROUTER_KEY}
routes:
  local/box: {primary: box, fallback: openrouter, resume: true}
`, demoModel(t), c.URL))
	in := launch(t, []string{"TEST_OPENROUTER_KEY=" + cloudKey}, "--config", file.path, "--log-level", "info")
	in.awaitReady()
	descriptors := in.descriptors()

	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	var disrupting sync.WaitGroup
	disruptions := map[string]int{}
	disrupting.Go(func() {
		defer stop()
		in.disrupt(ctx, disruptions, rounds)
	})
	var calls sync.WaitGroup
	var mu sync.Mutex
	made, byCloud, failed := 0, 0, 0
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			made++
			id := fmt.Sprint("call-", made)
			calls.Go(func() {
				backend, err := in.countingCall(id)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if failed++; failed <= 5 {
						t.Errorf("%s, by %s: %v", id, backend, err)
					}
				}
				if backend == "openrouter" {
					byCloud++
				}
			})
		}
	}
	calls.Wait()
	disrupting.Wait()
	resumed := strings.Count(in.get("/metrics"), `end="whole"`)
	t.Logf("%d calls, %d of them by the cloud, %d failed; llama-server was %v; some were resumed: %t", made, byCloud, failed, disruptions, resumed > 0)
	for _, kind := range []string{"killed", "stopped", "restarted", "drained"} {
		if disruptions[kind] < rounds {
			t.Errorf("llama-server was not %s %d times", kind, rounds)
		}
	}
	if failed > 0 || made-byCloud < made/50 {
		t.Errorf("of %d calls %d failed, and %d were local; llama-server was %v", made, failed, made-byCloud, disruptions)
	}
	c.mu.Lock()
	for id, n := range c.paid {
		if n > 1 {
			t.Errorf("%s was paid for %d times", id, n)
		}
	}
	c.mu.Unlock()
	in.awaitReady()
	const pool = 64 // connections to the cloud that are kept for a minute
	in.await("as small as before", func(control.Server) bool { return in.descriptors() <= descriptors+pool+8 })
}

// disrupt kills, stops, restarts and drains llama-server in turn, each time that it is
// ready again, for some rounds.
func (in *instance) disrupt(ctx context.Context, done map[string]int, rounds int) {
	for i := 0; i < 4*rounds; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(200+rand.IntN(1000)) * time.Millisecond):
		}
		s, err := in.client.Status(in.t.Context())
		if err != nil || len(s.Servers) == 0 || s.Servers[0].State != "ready" {
			continue // it is not ready yet
		}
		pid := s.Servers[0].PID
		kind := ""
		switch i % 4 {
		case 0:
			kind, err = "killed", syscall.Kill(pid, syscall.SIGKILL)
		case 1:
			kind, err = "stopped", syscall.Kill(pid, syscall.SIGSTOP)
		case 2:
			kind = "restarted"
			_, err = in.client.Restart(ctx, nil)
		case 3:
			how := control.DrainRequest{Timeout: control.Duration(300 * time.Millisecond)}
			nothing := func(control.Step) error { return nil }
			whole := context.WithoutCancel(ctx) // it must be resumed
			kind, err = "drained", errors.Join(in.client.Drain(whole, how, nothing), in.client.Resume(whole, nil, nothing))
		}
		if err == nil { // otherwise it has exited meanwhile
			done[kind]++
			i++
		}
	}
}

// countingCall makes a call of a random size, and checks every word of its answer.
func (in *instance) countingCall(id string) (backend string, err error) {
	return in.countingCallTo("local/box", id, 1+rand.IntN(80), rand.IntN(2) == 0)
}

// countingCallTo makes a call, and checks every word of its answer. backend is the one that
// answered first, and may be "" if the answer does not say that.
func (in *instance) countingCallTo(model, id string, tokens int, stream bool) (backend string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.url+"/v1/chat/completions", strings.NewReader(fmt.Sprintf(
		`{"model":%q,"user":%q,"stream":%t,"max_tokens":%d,"messages":[{"role":"user","content":"count"}]}`, model, id, stream, tokens)))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	backend = resp.Header.Get("X-Llmsup-Backend")
	var text strings.Builder
	ends := 1
	if stream && resp.StatusCode == http.StatusOK {
		ends = 0
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if data == "[DONE]" {
				ends++
			} else if ok {
				if gjson.Get(data, "error").Exists() {
					return backend, errors.New(data)
				}
				text.WriteString(gjson.Get(data, "choices.0.delta.content").Str)
			}
		}
		err = lines.Err()
	} else {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return backend, fmt.Errorf("%d %s", resp.StatusCode, body)
		}
		text.WriteString(gjson.GetBytes(body, "choices.0.message.content").Str)
	}
	if backend == "" { // its headers were sent before its backend was known
		backend = resp.Trailer.Get("X-Llmsup-Backend")
	}
	if want := countFrom(1, tokens); err != nil || text.String() != want || ends != 1 {
		return backend, fmt.Errorf("%w: %d ends, %q, want %q", err, ends, text.String(), want)
	}
	return backend, nil
}

// descriptors counts the open file descriptors of llmsup.
func (in *instance) descriptors() int {
	in.t.Helper()
	entries, err := os.ReadDir("/proc/" + itoa(in.cmd.Process.Pid) + "/fd")
	if err != nil {
		in.t.Fatal(err)
	}
	return len(entries)
}
