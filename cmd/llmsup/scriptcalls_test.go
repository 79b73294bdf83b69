package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// callCommands are the commands with which scripts make calls:
//
//	call MODEL                      makes a call, and prints its status, headers and body
//	calls N MODEL                   makes N calls at once, in the background
//	answered STATUS [BACKEND]       waits for these calls; each must have that status and backend
//	traffic N MODEL                 starts N clients that make calls continuously
//	traffic-answered STATUS BACKEND stops them; each call must have that status and backend
//	until STATE [SERVER]            waits until a server is in a state
//	until-queued N [SERVER]         waits until N calls wait for a slot of a server
//	openrouter MODEL...             starts a fake OpenRouter with these models, at $OPENROUTER
//	openrouter-got MODEL            checks the model of its last call
var callCommands = map[string]func(*testscript.TestScript, bool, []string){
	"call": makeCall, "calls": callSeveral, "answered": answered, "traffic": traffic, "traffic-answered": trafficAnswered,
	"until": untilState, "until-queued": untilQueued, "openrouter": startOpenRouter, "openrouter-got": openRouterGot,
}

// scriptCalls are the background calls of one script.
type scriptCalls struct {
	mu      sync.Mutex
	group   sync.WaitGroup
	results []string // as "200 demo"
	stop    context.CancelFunc
	cloud   *fakeCloud
	daemon  func() // ends the script's newest daemon as Ctrl-C does
}

type scriptCallsKey struct{}

func callsOf(ts *testscript.TestScript) *scriptCalls {
	calls, ok := ts.Value(scriptCallsKey{}).(*scriptCalls)
	if !ok {
		ts.Fatalf("Setup has made no calls")
	}
	return calls
}

// chatAt makes a call for 20 tokens, and reads its answer.
func chatAt(ctx context.Context, url, model string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions",
		strings.NewReader(fmt.Sprintf(`{"model":%q,"max_tokens":20,"messages":[{"role":"user","content":"Count."}]}`, model)))
	if err != nil {
		return reply{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, header: resp.Header, body: string(body)}, err
}

func scriptStatus(ts *testscript.TestScript) control.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	status, err := control.NewClient(ts.Getenv("LLMSUP_CONTROL_SOCKET")).Status(ctx)
	ts.Check(err)
	return status
}

func scriptURL(ts *testscript.TestScript) string { return "http://" + scriptStatus(ts).Listen }

func makeCall(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: call MODEL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := chatAt(ctx, scriptURL(ts), args[0])
	ts.Check(err)
	out := fmt.Sprintln(r.status, http.StatusText(r.status))
	for _, name := range []string{"X-Llmsup-Backend", "X-Llmsup-Reason", "Retry-After"} {
		if value := r.header.Get(name); value != "" {
			out += name + ": " + value + "\n"
		}
	}
	_, _ = fmt.Fprintln(ts.Stdout(), out+r.body)
}

// background makes calls until more returns false.
func (c *scriptCalls) background(url, model string, clients int, more func(ctx context.Context) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c.mu.Lock()
	c.stop, c.results = cancel, nil
	c.mu.Unlock()
	for range clients {
		c.group.Go(func() {
			for again := true; again; again = more(ctx) {
				r, err := chatAt(context.WithoutCancel(ctx), url, model)
				result := strconv.Itoa(r.status) + " " + r.backend()
				switch {
				case err != nil:
					result = err.Error()
				case r.status != http.StatusOK:
					result += " " + r.body
				}
				c.mu.Lock()
				c.results = append(c.results, result)
				c.mu.Unlock()
			}
		})
	}
}

func callSeveral(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: calls N MODEL")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	callsOf(ts).background(scriptURL(ts), args[1], n, func(context.Context) bool { return false })
}

func traffic(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: traffic N MODEL")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	callsOf(ts).background(scriptURL(ts), args[1], n, func(ctx context.Context) bool { return ctx.Err() == nil })
}

func trafficAnswered(ts *testscript.TestScript, neg bool, args []string) {
	callsOf(ts).stop()
	answered(ts, neg, args)
}

func answered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: answered STATUS [BACKEND]")
	}
	c := callsOf(ts)
	c.group.Wait()
	c.stop()
	want := strings.Join(args, " ")
	for _, result := range c.results {
		if result != want && (len(args) == 2 || !strings.HasPrefix(result, want+" ")) {
			ts.Fatalf("a call got %s, want %s", result, want)
		}
	}
	if len(c.results) == 0 {
		ts.Fatalf("there were no calls")
	}
	ts.Logf("%d calls got %s", len(c.results), want)
}

// untilServer waits until a server's status satisfies ok.
func untilServer(ts *testscript.TestScript, what, name string, ok func(control.Server) bool) {
	var last []control.Server
	if eventually(testTimeout, func() bool {
		last = scriptStatus(ts).Servers
		return slices.ContainsFunc(last, func(s control.Server) bool { return (name == "" || s.Name == name) && ok(s) })
	}) {
		return
	}
	ts.Fatalf("not %s after %s: %+v", what, testTimeout, last)
}

func untilState(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: until STATE [SERVER]")
	}
	untilServer(ts, args[0], strings.Join(args[1:], ""), func(s control.Server) bool { return s.State == args[0] })
}

func untilQueued(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: until-queued N [SERVER]")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	untilServer(ts, args[0]+" calls queued", strings.Join(args[1:], ""), func(s control.Server) bool { return s.Queued == n })
}

func startOpenRouter(ts *testscript.TestScript, neg bool, names []string) {
	if neg || len(names) == 0 {
		ts.Fatalf("usage: openrouter MODEL...")
	}
	c := &fakeCloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			fmt.Fprintf(w, `{"data":[{"id":"%s"}]}`, strings.Join(names, `"},{"id":"`))
			return
		}
		c.answer(w, r)
	}))
	ts.Defer(c.Close)
	callsOf(ts).cloud = c
	ts.Setenv("OPENROUTER", c.URL)
}

func openRouterGot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: openrouter-got MODEL")
	}
	if models := callsOf(ts).cloud.requestedModels(); len(models) == 0 || models[len(models)-1] != args[0] {
		ts.Fatalf("it got calls for %q", models)
	}
}

// beginDaemon starts a daemon and waits until it listens, whatever the state of its
// servers: daemon [flags of start]. It is stopped at the end of the script.
func beginDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: daemon [flags of start]")
	}
	end := startDaemon(ts, args)
	client := control.NewClient(ts.Getenv("LLMSUP_CONTROL_SOCKET"))
	var err error
	if !eventually(testTimeout, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err = client.Status(ctx)
		return !errors.Is(err, control.ErrNoDaemon)
	}) || err != nil {
		ts.Fatalf("llmsup does not answer: %v\n%s", err, end())
	}
}

// endDaemon stops the newest daemon as Ctrl-C does, and waits for its end: end-daemon.
func endDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 || callsOf(ts).daemon == nil {
		ts.Fatalf("usage: end-daemon, after daemon or running")
	}
	callsOf(ts).daemon()
}

// startDaemon starts a daemon that is stopped at the end of the script. end kills it,
// and returns its log.
func startDaemon(ts *testscript.TestScript, args []string) (end func() string) {
	daemon := exec.Command("llmsup", append([]string{"start", "--llama-server", ts.Getenv("LLAMA_SERVER"), "--gpu", "none"}, args...)...)
	daemon.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "WORK", "LLMSUP_CONTROL_SOCKET", "LLMSUP_STATE_DIR", "LLMSUP_LISTEN", "REAL_LLAMA_SERVER", "OPENROUTER_API_KEY", "LLAMA_ARG_THREADS"} {
		if value := ts.Getenv(name); value != "" {
			daemon.Env = append(daemon.Env, name+"="+value)
		}
	}
	var log strings.Builder
	daemon.Stderr, daemon.WaitDelay = &log, time.Second
	ts.Check(daemon.Start())
	over := make(chan struct{})
	go func() {
		_ = daemon.Wait() // other tests check how it ends
		close(over)
	}()
	interrupt := func() {
		_ = daemon.Process.Signal(syscall.SIGINT)
		<-over
	}
	callsOf(ts).daemon = interrupt
	ts.Defer(interrupt)
	return func() string {
		_ = daemon.Process.Kill()
		<-over
		return log.String()
	}
}
