package threeboxes

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

const (
	tries       = 3 // of a call, as in OpenAI's SDKs: two retries
	callTimeout = 90 * time.Second

	// maxUnderWay limits the calls under way if the machine is too slow for the rate: a fleet
	// whose queues are full rejects calls, faults or not.
	maxUnderWay = 120
)

// rate is the number of calls a second: 50, and fewer where other tests run at the same time, which
// would find the queues full.
func rate() int {
	if n, err := strconv.Atoi(os.Getenv("LLMSUP_TEST_FLEET_RATE")); err == nil {
		return n
	}
	if long() {
		return 50
	}
	return 20
}

// message is one of a chat.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// call is a call of a client. Its answer must be the numbers from 1 to tokens.
type call struct {
	id       string
	model    string
	messages []message
	tokens   int
	stream   bool
}

// attempt is a call as one box got it. Its id is that of the request and of the upstream's
// bill.
type attempt struct {
	box   *box
	whole bool // the client has the whole answer
}

// clients make calls as OpenAI's SDKs behind a load balancer do: a call goes to the next box
// in turn, and if that box refuses or resets the connection, to the one after it.
type clients struct {
	boxes   []*box
	http    *http.Client
	padding string // is added to the body of each call

	mu       sync.Mutex
	made     int
	ended    int
	answered int
	attempts map[string]attempt
	streams  map[*box]int // that have begun, and have not ended
	figures  figures
}

// figures are what happened to the calls of one fault.
type figures struct {
	calls, failed int
	omitted       int // because maxUnderWay calls were under way
	retried       int // calls that another box got too, because one refused, or was killed before its answer began
	cut           int // of these, those whose answer had begun at a box that was killed
	resumed       int // streams that another backend continued
	hops          int // answers of another box than the client called
	byUpstream    int // answers of the upstream to calls for the boxes
	longest       time.Duration
	longestID     string
}

func newClients(boxes []*box) *clients {
	return &clients{boxes: boxes, attempts: map[string]attempt{}, streams: map[*box]int{}, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
}

// run makes calls until ctx ends, and returns when all have their answers. A call that has
// none is an error of t.
func (c *clients) run(ctx context.Context, t *testing.T) {
	turns := make(chan struct{}, 1)
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() { c.chat(t, turns) })
	}
	tick := time.NewTicker(time.Second / time.Duration(rate()))
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		}
		if c.isFull() {
			continue
		}
		model := "local/demo"
		switch n % 10 {
		case 0, 1:
			model = "local/backed"
		case 2, 3:
			model = "paid"
		case 4, 5, 6:
			select {
			case turns <- struct{}{}:
				continue
			default: // all chats wait for an answer
			}
		}
		calls.Go(func() { c.one(t, model, nil, n%25 == 7) })
	}
	close(turns)
	calls.Wait()
}

// isFull reports whether maxUnderWay calls are under way, and counts the call that is omitted.
func (c *clients) isFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.made-c.ended >= maxUnderWay
	if full {
		c.figures.omitted++
	}
	return full
}

// chat has chats of several turns until turns is closed.
func (c *clients) chat(t *testing.T, turns <-chan struct{}) {
	var history []message
	for range turns {
		if len(history) > 10 {
			history = nil
		}
		if answer, ok := c.one(t, "local/demo", history, false); ok {
			history = append(history, message{"user", question}, message{"assistant", answer})
		}
	}
}

const question = "count"

// one makes a call and checks its answer.
func (c *clients) one(t *testing.T, model string, history []message, long bool) (answer string, ok bool) {
	call := call{model: model, messages: append(slices.Clip(history), message{"user", question}), tokens: 1 + rand.IntN(60), stream: rand.IntN(2) == 0}
	if long { // some streams are under way at each fault
		call.tokens, call.stream = 800, true
	}
	c.mu.Lock()
	c.made++
	number := c.made
	c.figures.calls++
	c.mu.Unlock()
	call.id = fmt.Sprint("call-", number)
	began := time.Now()
	answer, err := c.answer(&call, number)
	took := time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended++
	if took > c.figures.longest {
		c.figures.longest, c.figures.longestID = took, call.id
	}
	if err != nil {
		if c.figures.failed++; c.figures.failed <= 10 {
			t.Errorf("%s for %s, stream %t, %d messages, %d tokens, after %s: %v", call.id, model, call.stream, len(call.messages), call.tokens, took.Round(time.Millisecond), err)
		}
		return "", false
	}
	c.answered++
	return answer, true
}

// answer makes a call at one box after the other, beginning with that of its number.
func (c *clients) answer(call *call, number int) (answer string, err error) {
	for try := range tries {
		b := c.boxes[(number+try)%len(c.boxes)]
		id := fmt.Sprintf("%s-%d", call.id, try)
		kills := b.kills.Load()
		c.mu.Lock()
		c.attempts[id] = attempt{box: b}
		c.mu.Unlock()
		reply, failed := c.ask(b, id, call)
		err = failed
		if err == nil && reply.text != count(1, call.tokens) {
			return "", fmt.Errorf("%s, by %s: the text is %q", b.name, reply.backend, reply.text)
		}
		if err == nil {
			c.record(b, id, call, &reply)
			return reply.text, nil
		}
		killed := b.kills.Load() > kills
		if !isReset(err) || reply.begun && !killed {
			return "", fmt.Errorf("%s, by %q, after %d bytes: %w", b.name, reply.backend, len(reply.text), err)
		}
		c.mu.Lock()
		if reply.begun {
			c.figures.cut++
		}
		c.figures.retried++
		c.mu.Unlock()
	}
	return "", fmt.Errorf("after %d tries: %w", tries, err)
}

// record keeps that an attempt has its whole answer.
func (c *clients) record(b *box, id string, call *call, reply *reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts[id] = attempt{b, true}
	if reply.resumed {
		c.figures.resumed++
	}
	if reply.backend == "paid" && call.model != "paid" {
		c.figures.byUpstream++
	}
	if strings.Contains(reply.backend, "/") {
		c.figures.hops++
	}
}

// isReset reports whether an error is that of a connection that was refused or reset, which
// SDKs answer with a retry.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// reply is an answer, or what has arrived of one.
type reply struct {
	begun   bool // its headers have arrived
	backend string
	text    string
	prompt  int // tokens
	cached  int // of these, tokens that llama-server had
	resumed bool
}

// ask makes an attempt.
func (c *clients) ask(b *box, id string, call *call) (reply reply, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	members := map[string]any{"model": call.model, "user": id, "stream": call.stream, "max_tokens": call.tokens, "messages": call.messages}
	c.mu.Lock()
	if c.padding != "" {
		members["metadata"] = map[string]string{"padding": c.padding}
	}
	c.mu.Unlock()
	body, err := json.Marshal(members)
	if err != nil {
		return reply, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/v1/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		return reply, err
	}
	req.Header.Set("Authorization", "Bearer "+clientKey)
	req.Header.Set("X-Request-Id", id)
	resp, err := c.http.Do(req)
	if err != nil {
		return reply, err
	}
	defer resp.Body.Close()
	reply.begun, reply.backend = true, resp.Header.Get("X-Llmsup-Backend")
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return reply, fmt.Errorf("%s %s", resp.Status, text)
	}
	if call.stream {
		c.streaming(b, 1)
		err = reply.readStream(resp.Body)
		c.streaming(b, -1)
	} else {
		var whole []byte
		whole, err = io.ReadAll(resp.Body)
		reply.text = gjson.GetBytes(whole, "choices.0.message.content").Str
		reply.prompt = int(gjson.GetBytes(whole, "usage.prompt_tokens").Int())
		reply.cached = int(gjson.GetBytes(whole, "usage.prompt_tokens_details.cached_tokens").Int())
	}
	if reply.backend == "" { // its headers were sent before its backend was known
		reply.backend = resp.Trailer.Get("X-Llmsup-Backend")
	}
	return reply, err
}

func (c *clients) streaming(b *box, change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams[b] += change
}

// awaitStream waits until a stream has begun at a box, and is under way.
func (c *clients) awaitStream(t *testing.T, b *box) {
	t.Helper()
	await(t, "a stream under way at "+b.name, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.streams[b] > 0
	})
}

// readStream reads a stream, which has to end as a whole one does.
func (r *reply) readStream(body io.Reader) error {
	ends := 0
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		data, isData := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case strings.HasPrefix(lines.Text(), ": resumed by"):
			r.resumed = true
		case !isData:
		case data == "[DONE]":
			ends++
		case gjson.Get(data, "error").Exists():
			return errors.New(data)
		case ends > 0:
			return fmt.Errorf("after its end: %s", data)
		default:
			r.text += gjson.Get(data, "choices.0.delta.content").Str
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if ends != 1 {
		return fmt.Errorf("the stream came to a clean end with %d end marks", ends)
	}
	return nil
}

// awaitAnswers waits until n more calls have their answers.
func (c *clients) awaitAnswers(t *testing.T, n int) {
	t.Helper()
	answered := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.answered
	}
	before := answered()
	await(t, fmt.Sprint(n, " calls answered"), func() bool { return answered() >= before+n })
}

// takeFigures returns the figures since the last call of it.
func (c *clients) takeFigures() figures {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.figures
	c.figures = figures{}
	return f
}
