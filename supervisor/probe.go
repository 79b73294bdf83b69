package supervisor

import (
	"context"
	"encoding/json"
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
)

const (
	// probeAnswer bounds one question to llama-server. It answers /health within
	// 0.1 s even in the middle of a long prompt.
	probeAnswer = 2 * time.Second
	// probeBody bounds what is read of an answer; /props carries the chat
	// template, which is some 10 KiB in real models.
	probeBody = 1 << 20
)

var errLoading = errors.New("the model is still loading")

// engine is a llama-server that can be asked how it is.
type engine interface {
	// listener proves that it is the process, or one of its group, that answers.
	listener(ctx context.Context, pid int) (direct bool, err error)
	health(context.Context) error   // nil: loaded; errLoading: not yet
	complete(context.Context) error // nil: a completion of one token came back
	props(context.Context) (properties, error)
	vitals(context.Context) vitals // health, slots and tokens of one look
}

// prober asks a llama-server how it is, on connections of its own, so that
// neither users' calls nor their connection pool can delay it.
type prober struct {
	at      Endpoint
	client  *http.Client
	key     string
	patient time.Duration // bounds one question
}

func newProber(e Endpoint, patient time.Duration) *prober {
	dialer := &net.Dialer{Timeout: probeAnswer}
	return &prober{
		at: e, key: e.Key, patient: patient,
		client: &http.Client{
			Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, e.Network, e.Address)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (p *prober) listener(ctx context.Context, pid int) (direct bool, err error) {
	return p.at.provenBy(ctx, pid)
}

// health returns nil when the model is loaded, errLoading while it is not, and
// another error when the server doesn't answer as one.
func (p *prober) health(ctx context.Context) error {
	status, _, err := p.get(ctx, "/health")
	switch {
	case err != nil:
		return err
	case status == http.StatusServiceUnavailable:
		return errLoading
	case status != http.StatusOK:
		return fmt.Errorf("/health answered %d", status)
	}
	return nil
}

// properties is what llama-server says of itself once its model is loaded.
type properties struct {
	slots   int // calls worked on at once
	ctxSize int // tokens a slot
}

func (p *prober) props(ctx context.Context) (properties, error) {
	status, body, err := p.get(ctx, "/props")
	if err != nil {
		return properties{}, err
	}
	if status != http.StatusOK {
		return properties{}, fmt.Errorf("/props answered %d", status)
	}
	var answer struct {
		TotalSlots int `json:"total_slots"`
		Defaults   struct {
			NCtx int `json:"n_ctx"`
		} `json:"default_generation_settings"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return properties{}, fmt.Errorf("read /props: %w", err)
	}
	return properties{slots: answer.TotalSlots, ctxSize: answer.Defaults.NCtx}, nil
}

// complete has the engine make one token. The time that this takes is bounded
// by ctx alone: the first one after a load may have to warm up a GPU. A server
// that was started for embeddings says that it makes none, which is an answer
// too.
func (p *prober) complete(ctx context.Context) error {
	const one = `{"prompt":"1","n_predict":1,"cache_prompt":false}`
	status, _, err := p.ask(ctx, http.MethodPost, "/completion", one)
	if err == nil && status != http.StatusOK && status != http.StatusNotImplemented {
		err = fmt.Errorf("/completion answered %d", status)
	}
	return err
}

// vitals asks three questions at once, so that one that hangs costs no more
// than its own bound.
func (p *prober) vitals(ctx context.Context) vitals {
	var v vitals
	var work, slotWork float64
	var counted bool
	var group sync.WaitGroup
	group.Go(func() { v.health = p.health(ctx) == nil })
	group.Go(func() { v.slots, slotWork = p.slots(ctx) })
	group.Go(func() { work, counted = p.counters(ctx) })
	group.Wait()
	v.tokens, v.counted = work+slotWork, counted && v.slots
	return v
}

// slots asks the engine's task queue, which /health passes by. Its answer also
// counts the work on calls that are not done yet. A build that has the endpoint
// switched off (501) can't be asked.
func (p *prober) slots(ctx context.Context) (answered bool, work float64) {
	status, body, err := p.get(ctx, "/slots")
	if err != nil || status != http.StatusOK {
		return err == nil && status == http.StatusNotImplemented, 0
	}
	gjson.ParseBytes(body).ForEach(func(_, slot gjson.Result) bool {
		work += slot.Get("n_prompt_tokens_processed").Float()
		next := slot.Get("next_token")
		work += next.Get("0.n_decoded").Float() + next.Get("n_decoded").Float() // a list in newer builds
		return true
	})
	return true, work
}

// workCounters are the counters of /metrics that grow with the engine's work.
var workCounters = []string{"llamacpp:prompt_tokens_total ", "llamacpp:tokens_predicted_total ", "llamacpp:n_decode_total "}

func (p *prober) counters(ctx context.Context) (work float64, answered bool) {
	status, body, err := p.get(ctx, "/metrics")
	if err != nil || status != http.StatusOK {
		return 0, err == nil && status == http.StatusNotImplemented
	}
	for line := range strings.Lines(string(body)) {
		for _, name := range workCounters {
			if value, ok := strings.CutPrefix(line, name); ok {
				n, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
				work += n
			}
		}
	}
	return work, true
}

func (p *prober) get(ctx context.Context, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.patient)
	defer cancel()
	return p.ask(ctx, http.MethodGet, path, "")
}

func (p *prober) ask(ctx context.Context, method, path, body string) (status int, answer []byte, err error) {
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
	answer, err = io.ReadAll(io.LimitReader(resp.Body, probeBody))
	return resp.StatusCode, answer, err
}
