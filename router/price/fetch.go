package price

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	fetchTimeout = 30 * time.Second
	maxListSize  = 8 << 20 // bytes; OpenRouter's list has some hundred KB
)

// listClient does not follow redirects: the key is for the upstream alone. It keeps no
// idle connection until the next day.
var listClient = &http.Client{
	Timeout:       fetchTimeout,
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// statusError is the error of an answer without status 200.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("it answered %d %s", int(e), http.StatusText(int(e)))
}

// FetchModels returns a function that requests the /models of an upstream. Its errors do
// not contain the key, which may be "".
func FetchModels(baseURL, key string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		raw, err := fetchModels(ctx, baseURL, key)
		if err != nil && key != "" { // some servers quote it
			err = &redactedError{err, key}
		}
		return raw, err
	}
}

func fetchModels(ctx context.Context, baseURL, key string) ([]byte, error) {
	base, err := url.Parse(baseURL)
	if err != nil {
		return nil, err
	}
	if strings.Trim(base.Path, "/") == "" { // as for calls
		base.Path = "/v1"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("models").String(), nil)
	if err != nil {
		return nil, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := listClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxListSize+1))
	if err == nil && len(raw) > maxListSize {
		err = fmt.Errorf("it exceeds %d MiB", maxListSize>>20)
	}
	return raw, err
}

// redactedError is an error whose message does not contain a key.
type redactedError struct {
	error
	key string
}

func (e *redactedError) Error() string { return strings.ReplaceAll(e.error.Error(), e.key, "[key]") }
func (e *redactedError) Unwrap() error { return e.error }

// HasNoPrices returns whether an error of Refresh means that the upstream works, but lists
// no prices.
func HasNoPrices(err error) bool {
	var status statusError
	return errors.Is(err, ErrNoPrices) || errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented)
}
