package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// ErrNoDaemon says that nobody answers at the control socket.
var ErrNoDaemon = errors.New("no daemon")

// answerTimeout bounds one question to the daemon. It answers from memory.
const answerTimeout = 10 * time.Second

// Client asks the daemon behind a control socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client. Nothing is dialled yet.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{
		Timeout: answerTimeout,
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

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var result T
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return result, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return result, c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return result, fmt.Errorf("the daemon at %s broke its answer off: %w", c.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		var e errorBody
		if json.Unmarshal(body, &e) == nil && e.Error != "" {
			return result, fmt.Errorf("the daemon at %s refused: %s", c.path, e.Error)
		}
		return result, fmt.Errorf("the daemon at %s answered %s", c.path, resp.Status)
	}
	if err := json.Unmarshal(body, &result); err != nil {
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
	return fmt.Errorf("ask the daemon at %s: %w", c.path, err)
}
