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

// ErrNoDaemon means that no daemon answers at the control socket.
var ErrNoDaemon = errors.New("no daemon")

const (
	// answerTimeout limits a request. The daemon answers from memory, at once unless the
	// machine is overloaded.
	answerTimeout = 10 * time.Second
	reloadTimeout = time.Minute
)

// Client sends requests to the daemon at a control socket.
type Client struct {
	path string
	http *http.Client

	Version           string              // of this command
	OnVersionMismatch func(daemon string) // called once if the daemon has another version
	mismatch          sync.Once
}

// NewClient returns a client. It does not connect yet.
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

// Status returns the daemon's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status")
}

// Route returns where a call for a model would go now.
func (c *Client) Route(ctx context.Context, model string) (RouteAnswer, error) {
	return get[RouteAnswer](ctx, c, "/v1/route?"+url.Values{"model": {model}}.Encode())
}

// Logs emits the last lines that servers printed and, if it follows, the later ones until
// ctx ends.
func (c *Client) Logs(ctx context.Context, q LogsRequest, emit func(LogLine) error) error {
	query := url.Values{"n": {strconv.Itoa(q.Lines)}, "follow": {strconv.FormatBool(q.Follow)}, "server": q.Servers}
	resp, err := c.open(ctx, http.MethodGet, "/v1/logs?"+query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decodeLines(ctx, c, resp.Body, emit)
}

// Reload makes the daemon reload its configuration, and returns what has changed. It also
// reads the models' files, which may take a while.
func (c *Client) Reload(ctx context.Context) (changes []string, err error) {
	answer, err := request[Reloaded](ctx, c, http.MethodPost, "/v1/reload", nil, reloadTimeout)
	return answer.Changes, err
}

// Restart replaces the processes of servers; none = all. It returns once the replacement
// has begun; Status shows its progress.
func (c *Client) Restart(ctx context.Context, servers []string) (Restarting, error) {
	body, err := json.Marshal(ServersRequest{servers})
	if err != nil {
		return Restarting{}, err
	}
	return request[Restarting](ctx, c, http.MethodPost, "/v1/restart", body, answerTimeout)
}

// Drain takes servers out of use and emits each step until they are. The drain continues
// if ctx ends. After a NoFallbackError nothing has changed.
func (c *Client) Drain(ctx context.Context, how DrainRequest, emit func(Step) error) error {
	body, err := json.Marshal(how)
	if err != nil {
		return err
	}
	return c.steps(ctx, "/v1/drain", body, emit)
}

// Resume takes servers into use again, none = all, and emits each step.
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
	return decodeLines(ctx, c, resp.Body, emit)
}

// decodeLines emits the JSON objects of an answer, one per line.
func decodeLines[T any](ctx context.Context, c *Client, answer io.Reader, emit func(T) error) error {
	for lines := json.NewDecoder(answer); ; {
		var line T
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("the connection to the daemon at %s was lost in the middle of its answer: %w", c.path, err)
		}
		if err := emit(line); err != nil {
			return err
		}
	}
}

// open requests a path and returns a successful response.
func (c *Client) open(ctx context.Context, method, path string) (*http.Response, error) {
	return c.send(ctx, method, path, nil)
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+Host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if daemon := resp.Header.Get(versionHeader); daemon != c.Version && c.OnVersionMismatch != nil {
		c.mismatch.Do(func() { c.OnVersionMismatch(daemon) })
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var e errorBody
	if json.NewDecoder(resp.Body).Decode(&e) == nil && e.Error != "" {
		if len(e.NoFallback) > 0 {
			return nil, NoFallbackError{e.NoFallback}
		}
		if e.NoCall {
			return nil, noCallError{fmt.Sprintf("the daemon at %s refused: %s", c.path, e.Error)}
		}
		if e.NoFleet {
			return nil, fmt.Errorf("the daemon at %s refused: %w", c.path, ErrNoFleet)
		}
		return nil, fmt.Errorf("the daemon at %s refused: %s", c.path, e.Error)
	}
	return nil, fmt.Errorf("the daemon at %s answered %s", c.path, resp.Status)
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	return request[T](ctx, c, http.MethodGet, path, nil, answerTimeout)
}

func request[T any](ctx context.Context, c *Client, method, path string, body []byte, timeout time.Duration) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var result T
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return result, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return result, fmt.Errorf("the connection to the daemon at %s was lost in the middle of its answer: %w", c.path, err)
	}
	if err := json.Unmarshal(answer, &result); err != nil {
		return result, fmt.Errorf("the daemon at %s sent an unexpected answer: %w; it may be another version of llmsup", c.path, err)
	}
	return result, nil
}

// noCallError is ErrNoCall with a message for the user.
type noCallError struct{ message string }

func (e noCallError) Error() string        { return e.message }
func (e noCallError) Is(target error) bool { return target == ErrNoCall } //nolint:errorlint // this method is the comparison

// noDaemonError is ErrNoDaemon with a message for the user.
type noDaemonError struct{ message string }

func (e noDaemonError) Error() string        { return e.message }
func (e noDaemonError) Is(target error) bool { return target == ErrNoDaemon } //nolint:errorlint // this method is the comparison

func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTSOCK), errors.Is(err, syscall.ENOTDIR):
		return noDaemonError{fmt.Sprintf("no llmsup answers at %s; start it with \"llmsup start --model FILE.gguf\", or pass its --control-socket", c.path)}
	case errors.Is(err, fs.ErrPermission):
		return noDaemonError{fmt.Sprintf("this user has no access to %s; run the command as the user that llmsup runs as, or as root", c.path)}
	case errors.Is(err, syscall.EINVAL):
		return noDaemonError{fmt.Sprintf("%s is too long for the path of a socket; pass a shorter one with --control-socket", c.path)}
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return noDaemonError{fmt.Sprintf("llmsup at %s did not answer in time; the machine may be overloaded: try again, and check llmsup's log if that fails, too", c.path)}
	}
	return noDaemonError{fmt.Sprintf("the process that listens at %s does not answer as llmsup does (%s); check its log, or restart it", c.path, rootCause(err))}
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
