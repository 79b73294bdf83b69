package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	probeEveryLoading = 50 * time.Millisecond
	// probeAnswer bounds one question to llama-server. It answers /health within
	// 0.1 s even in the middle of a long prompt.
	probeAnswer = 2 * time.Second
	// probeBody bounds what is read of an answer; /props carries the chat
	// template, which is some 10 KiB in real models.
	probeBody = 1 << 20
)

var errLoading = errors.New("the model is still loading")

// prober asks a llama-server how it is, on connections of its own, so that
// neither users' calls nor their connection pool can delay it.
type prober struct {
	client *http.Client
	key    string
}

func newProber(e Endpoint) *prober {
	dialer := &net.Dialer{Timeout: probeAnswer}
	return &prober{
		key: e.Key,
		client: &http.Client{
			Timeout: probeAnswer,
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

func (p *prober) get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://llama-server"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, probeBody))
	return resp.StatusCode, body, err
}
