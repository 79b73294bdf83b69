package accounting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/llmsup/llmsup/router"
	"github.com/llmsup/llmsup/router/price"
)

const (
	// fetchTimeout limits the fetch of a list, and maxList its size in bytes. OpenRouter's
	// list has some hundred KB.
	fetchTimeout = 30 * time.Second
	maxList      = 8 << 20
)

// listClient fetches lists of models. It follows no redirect, since the key is only for the
// upstream, and keeps no connection until the next day.
var listClient = &http.Client{
	Timeout:       fetchTimeout,
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// statusError is the HTTP status of an answer without a list.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("it answered %d %s", int(e), http.StatusText(int(e)))
}

// fetchModels returns a function that fetches an upstream's list of models.
func fetchModels(u router.Upstream) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		raw, err := fetch(ctx, u)
		if err != nil && u.Key != "" { // some servers quote it
			err = &redactedError{err, u.Key}
		}
		return raw, err
	}
}

func fetch(ctx context.Context, u router.Upstream) ([]byte, error) {
	base, err := url.Parse(u.BaseURL)
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
	if u.Key != "" {
		req.Header.Set("Authorization", "Bearer "+u.Key)
	}
	resp, err := listClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	if err == nil && len(raw) > maxList {
		err = fmt.Errorf("it is over %d MiB", maxList>>20)
	}
	return raw, err
}

// redactedError is an error with the key removed from its message.
type redactedError struct {
	error
	key string
}

func (e *redactedError) Error() string { return strings.ReplaceAll(e.error.Error(), e.key, "[key]") }
func (e *redactedError) Unwrap() error { return e.error }

// hasNoPrices reports whether an error means that the upstream works, and lists no prices.
func hasNoPrices(err error) bool {
	var status statusError
	return errors.Is(err, price.ErrNoPrices) || errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented)
}
