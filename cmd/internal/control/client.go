package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ErrNoDaemon says that nobody answers at the control socket.
var ErrNoDaemon = errors.New("no daemon")

const (
	// answerTimeout bounds one question to the daemon. It answers from memory, at
	// once unless the machine is overloaded.
	answerTimeout = 10 * time.Second
	reloadTimeout = time.Minute
)

// Client asks the daemon behind a control socket.
type Client struct {
	path string
	http *http.Client

	// Other is called once when the daemon is of another version than this one.
	Version string
	Other   func(daemon string)
	asked   sync.Once
}

// NewClient makes a client. Nothing is dialled yet.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Status returns what the daemon says of itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// Route returns where a call for a model would go now.
func (c *Client) Route(ctx context.Context, model string) (RouteAnswer, error) {
	return get[RouteAnswer](ctx, c, "/v1/route?"+url.Values{"model": {model}}.Encode())
}

// Logs hands on the last lines that servers printed and, to follow, the later ones
// until ctx ends.
func (c *Client) Logs(ctx context.Context, q LogsRequest, emit func(LogLine) error) error {
	query := url.Values{"n": {strconv.Itoa(q.Lines)}, "follow": {strconv.FormatBool(q.Follow)}, "server": q.Servers}
	resp, err := c.open(ctx, http.MethodGet, "/v1/logs?"+query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return each(ctx, c, resp.Body, emit)
}

// Reload has the daemon read its configuration anew, and returns what has
// changed. It has to read the models' files as well, which may take a while.
func (c *Client) Reload(ctx context.Context) (changes []string, err error) {
	answer, err := ask[Reloaded](ctx, c, http.MethodPost, "/v1/reload", nil, reloadTimeout)
	return answer.Changes, err
}

// Restart replaces the processes of servers; none = all. It returns once that has
// begun: Status shows how it goes.
func (c *Client) Restart(ctx context.Context, servers []string) (Restarting, error) {
	body, err := json.Marshal(ServersRequest{servers})
	if err != nil {
		return Restarting{}, err
	}
	return ask[Restarting](ctx, c, http.MethodPost, "/v1/restart", body, answerTimeout)
}

// Drain takes servers out of use and hands on each step until that is done. When ctx
// ends, the drain goes on. A StrandedError says that nothing was done.
func (c *Client) Drain(ctx context.Context, how DrainRequest, emit func(Step) error) error {
	body, err := json.Marshal(how)
	if err != nil {
		return err
	}
	return c.steps(ctx, "/v1/drain", body, emit)
}

// Resume takes servers into use again, none = all, and hands on each step.
func (c *Client) Resume(ctx context.Context, servers []string, emit func(Step) error) error {
	body, err := json.Marshal(ServersRequest{servers})
	if err != nil {
		return err
	}
	return c.steps(ctx, "/v1/resume", body, emit)
}

func (c *Client) steps(ctx context.Context, path string, body []byte, emit func(Step) error) error {
	resp, err := c.send(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return each(ctx, c, resp.Body, emit)
}

// each hands on the JSON objects of an answer, one a line.
func each[T any](ctx context.Context, c *Client, answer io.Reader, emit func(T) error) error {
	for lines := json.NewDecoder(answer); ; {
		var line T
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("the daemon at %s broke its answer off: %w", c.path, err)
		}
		if err := emit(line); err != nil {
			return err
		}
	}
}

// open asks for a path and returns the answer if it is a good one.
func (c *Client) open(ctx context.Context, method, path string) (*http.Response, error) {
	return c.send(ctx, method, path, nil)
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if daemon := resp.Header.Get(versionHeader); daemon != c.Version && c.Other != nil {
		c.asked.Do(func() { c.Other(daemon) })
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e errorBody
	if json.NewDecoder(resp.Body).Decode(&e) == nil && e.Error != "" {
		if len(e.Stranded) > 0 {
			return nil, StrandedError{e.Stranded}
		}
		return nil, fmt.Errorf("the daemon at %s refused: %s", c.path, e.Error)
	}
	return nil, fmt.Errorf("the daemon at %s answered %s", c.path, resp.Status)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return ask[T](ctx, c, http.MethodGet, path, nil, answerTimeout)
}

func ask[T any](ctx context.Context, c *Client, method, path string, body []byte, patience time.Duration) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var result T
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return result, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return result, fmt.Errorf("the daemon at %s broke its answer off: %w", c.path, err)
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return result, fmt.Errorf("the daemon at %s gave an answer of another form: %w; is it of another version?", c.path, err)
	}
	return result, nil
}

// noDaemonError carries a sentence and is ErrNoDaemon.
type noDaemonError struct{ sentence string }

func (e noDaemonError) Error() string        { return e.sentence }
func (e noDaemonError) Is(target error) bool { return target == ErrNoDaemon } //nolint:errorlint // Is is where it is compared

func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.ENOTDIR):
		return noDaemonError{fmt.Sprintf("no llmsup answers at %s; start it with \"llmsup start --model FILE.gguf\", or pass its --control-socket", c.path)}
	case errors.Is(err, fs.ErrPermission):
		return noDaemonError{fmt.Sprintf("this user may not open %s; run the command as the user that llmsup runs as, or as root", c.path)}
	case errors.Is(err, syscall.EINVAL):
		return noDaemonError{fmt.Sprintf("%s is longer than a socket's path may be; pass another one with --control-socket", c.path)}
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return noDaemonError{fmt.Sprintf("llmsup at %s did not answer in time; the machine may be overloaded: try again, and look at llmsup's log if it stays so", c.path)}
	}
	return noDaemonError{fmt.Sprintf("what listens at %s does not answer as llmsup does (%s); look at its log, or end it and start it again", c.path, rootCause(err))}
}

func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
