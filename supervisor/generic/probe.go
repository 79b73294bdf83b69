package generic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/llmsup/llmsup/models"
	"github.com/llmsup/llmsup/supervisor"
)

const (
	dialTimeout = 2 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
)

// agent is how the probes name themselves, for the program's own log.
const agent = "llmsup-probe"

// probe asks one process for its health, on connections of its own.
type probe struct {
	client  *http.Client
	health  string
	slots   int
	timeout time.Duration
}

// Probe implements supervisor.Engine. That of an engine which can sleep is a
// supervisor.Sleeper.
func (e Engine) Probe(at supervisor.Endpoint, _ models.Description, timeout time.Duration) supervisor.Probe {
	p := e.newProbe(at, timeout)
	if e.Sleep == "" {
		return p
	}
	return &sleeper{p, e.Sleep, e.Wake}
}

func (e Engine) newProbe(at supervisor.Endpoint, timeout time.Duration) *probe {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &probe{
		health: e.Health, slots: e.Slots, timeout: timeout,
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

// Loaded implements supervisor.Probe. An error of the program's (5xx) is that it is loading;
// with any other answer it is loaded, and TestCall reports that the path is wrong.
func (p *probe) Loaded(ctx context.Context) error {
	status, err := p.get(ctx)
	if err == nil && status >= http.StatusInternalServerError {
		return supervisor.ErrLoading
	}
	return err
}

// TestCall implements supervisor.Probe. It makes no call: what the program's API is, and
// what a call costs, is not known. The health path has to answer 200.
func (p *probe) TestCall(ctx context.Context) error {
	status, err := p.get(ctx)
	if err == nil && status != http.StatusOK {
		return fmt.Errorf("%s answered %d; set `health` to a path that answers 200 once the engine is ready", p.health, status)
	}
	return err
}

// Properties implements supervisor.Probe: what is configured.
func (p *probe) Properties(context.Context) (supervisor.Properties, error) {
	return supervisor.Properties{Slots: p.slots}, nil
}

// Sample implements supervisor.Probe.
func (p *probe) Sample(ctx context.Context) supervisor.Sample {
	s := supervisor.Sample{Opaque: true}
	switch status, err := p.get(ctx); {
	case err != nil:
		s.Failure = "it does not answer " + p.health + ", sends nothing and computes nothing"
	case status != http.StatusOK:
		s.Failure = fmt.Sprintf("%s answers %d, and it sends nothing and computes nothing", p.health, status)
	default:
		s.HTTPAnswers, s.EngineAnswers = true, true
	}
	return s
}

// BusySlots implements supervisor.Probe.
func (*probe) BusySlots(context.Context) (int, error) {
	return 0, errors.New("the engine does not report its slots")
}

// get returns the status of the health path.
func (p *probe) get(ctx context.Context) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	status, err = p.do(ctx, http.MethodGet, p.health)
	if errors.Is(err, context.DeadlineExceeded) {
		err = slowError(fmt.Sprintf("%s does not answer within %s", p.health, p.timeout))
	}
	return status, err
}

// slowError is a supervisor.ErrNoAnswer with a message of its own.
type slowError string

func (e slowError) Error() string        { return string(e) }
func (e slowError) Is(target error) bool { return target == supervisor.ErrNoAnswer }

// sleeper is the probe of an engine that can release its VRAM without ending.
type sleeper struct {
	*probe
	sleep, wake string
}

// Sleep implements supervisor.Sleeper.
func (p *sleeper) Sleep(ctx context.Context) error { return p.post(ctx, p.sleep) }

// Wake implements supervisor.Sleeper.
func (p *sleeper) Wake(ctx context.Context) error { return p.post(ctx, p.wake) }

func (p *sleeper) post(ctx context.Context, path string) error {
	status, err := p.do(ctx, http.MethodPost, path)
	if err == nil && status/100 != 2 {
		return fmt.Errorf("POST %s answered %d", path, status)
	}
	return err
}

// do makes a request without a body, and returns the status of the answer.
func (p *probe) do(ctx context.Context, method, path string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1"+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", agent)
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, err
}
