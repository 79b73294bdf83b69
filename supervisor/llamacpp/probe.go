package llamacpp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

const (
	dialTimeout = 2 * time.Second
	// answerTimeout bounds one question. llama-server answers within 0.1 s even in the
	// middle of a long prompt.
	answerTimeout = 2 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes. /props includes the chat
	// template, which is some 10 KiB in real models.
	maxAnswer = 1 << 20
)

// probe asks one llama-server for its condition, on connections of its own, so that
// neither users' calls nor their connection pool can delay it.
type probe struct {
	client  *http.Client
	key     string
	timeout time.Duration // of one question, but for a test call

	mu    sync.Mutex
	model models.Description // what is known of the model by now

	restored map[int]int // tokens of the slots that have been restored, as long as /slots does not show them
}

// Probe implements supervisor.Engine.
func (Engine) Probe(at supervisor.Endpoint, of models.Description, timeout time.Duration) supervisor.Probe {
	return newProbe(at, of, min(timeout, answerTimeout))
}

func newProbe(at supervisor.Endpoint, of models.Description, timeout time.Duration) *probe {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &probe{
		key: at.Key, model: of, timeout: timeout,
		client: &http.Client{
			Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, at.Network, at.Address)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Loaded implements supervisor.Probe.
func (p *probe) Loaded(ctx context.Context) error {
	status, _, err := p.get(ctx, "/health")
	switch {
	case err != nil:
		return err
	case status == http.StatusServiceUnavailable:
		return supervisor.ErrLoading
	case status != http.StatusOK:
		return fmt.Errorf("/health answered %d", status)
	}
	return nil
}

// Properties implements supervisor.Probe.
func (p *probe) Properties(ctx context.Context) (supervisor.Properties, error) {
	status, body, err := p.get(ctx, "/props")
	if err != nil {
		return supervisor.Properties{}, err
	}
	if status != http.StatusOK {
		return supervisor.Properties{}, fmt.Errorf("/props answered %d", status)
	}
	props := gjson.ParseBytes(body)
	if !props.IsObject() {
		return supervisor.Properties{}, errors.New("/props answered no JSON object")
	}
	return supervisor.Properties{
		Slots:       int(props.Get("total_slots").Int()),
		CtxSize:     int(props.Get("default_generation_settings.n_ctx").Int()),
		Description: refine(p.description(), props),
	}, nil
}

// Sample implements supervisor.Probe. It asks three questions at the same time, so
// that one that hangs costs no more than its own timeout.
func (p *probe) Sample(ctx context.Context) supervisor.Sample {
	var s supervisor.Sample
	var inSlots slotsReading
	var finished counters
	var counted bool
	var group sync.WaitGroup
	group.Go(func() { s.HTTPAnswers = p.Loaded(ctx) == nil })
	group.Go(func() { s.EngineAnswers, inSlots = p.slots(ctx) })
	group.Go(func() { finished, counted = p.counters(ctx) })
	group.Wait()
	s.Work, s.WorkKnown = finished.work+inSlots.work, counted && s.EngineAnswers
	s.CachedTokens, s.PromptTokens, s.PromptSeconds = inSlots.cached, finished.promptTokens, finished.promptSeconds
	switch {
	case !s.HTTPAnswers:
		s.Failure = "it does not answer /health"
	case !s.EngineAnswers:
		s.Failure = "it answers /health but not /slots"
	}
	return s
}

// slotsReading is what /slots shows.
type slotsReading struct {
	work   float64 // on calls that have not ended
	cached int     // tokens in the caches
}

// slots asks llama-server's task queue, which /health bypasses. The answer also
// counts the work on calls that have not ended. A build that has the endpoint
// switched off (501) cannot be asked.
func (p *probe) slots(ctx context.Context) (answered bool, r slotsReading) {
	status, body, err := p.get(ctx, "/slots")
	if err != nil || status != http.StatusOK {
		return err == nil && status == http.StatusNotImplemented, r
	}
	gjson.ParseBytes(body).ForEach(func(_, slot gjson.Result) bool {
		r.work += slot.Get("n_prompt_tokens_processed").Float()
		next := slot.Get("next_token")
		r.work += next.Get("0.n_decoded").Float() + next.Get("n_decoded").Float() // a list in newer builds
		r.cached += p.cachedIn(slot)
		return true
	})
	return true, r
}

// BusySlots implements supervisor.Probe.
func (p *probe) BusySlots(ctx context.Context) (busy int, err error) {
	status, body, err := p.get(ctx, "/slots")
	if err != nil {
		return 0, err
	}
	slots := gjson.ParseBytes(body)
	if status != http.StatusOK || !slots.IsArray() {
		return 0, fmt.Errorf("/slots answered %d", status)
	}
	slots.ForEach(func(_, slot gjson.Result) bool {
		if slot.Get("is_processing").Bool() {
			busy++
		}
		return true
	})
	return busy, nil
}

// workCounters are the counters of /metrics that grow with llama-server's work.
var workCounters = []string{processed, "llamacpp:tokens_predicted_total ", "llamacpp:n_decode_total "}

const (
	processed    = "llamacpp:prompt_tokens_total " // without those that were cached
	processedFor = "llamacpp:prompt_seconds_total "
)

// counters are some of the counters of /metrics.
type counters struct {
	work                        float64 // the sum of the workCounters
	promptTokens, promptSeconds float64
}

func (p *probe) counters(ctx context.Context) (c counters, answered bool) {
	status, body, err := p.get(ctx, "/metrics")
	if err != nil || status != http.StatusOK {
		return c, err == nil && status == http.StatusNotImplemented
	}
	for line := range strings.Lines(string(body)) {
		for _, name := range workCounters {
			c.work += valueOf(line, name)
		}
		c.promptTokens += valueOf(line, processed)
		c.promptSeconds += valueOf(line, processedFor)
	}
	return c, true
}

// valueOf returns the value of a line of /metrics, 0 if it is not that of the counter.
func valueOf(line, name string) float64 {
	value, _ := strings.CutPrefix(line, name)
	if len(value) == len(line) {
		return 0
	}
	n, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
	return n
}

func (p *probe) get(ctx context.Context, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	return p.do(ctx, http.MethodGet, path, "")
}

func (p *probe) do(ctx context.Context, method, path, body string) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://llama-server"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, answer, err
}
