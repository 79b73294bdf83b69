package daemon

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
	// fetchTimeout bounds the reading of a list, and maxList its size in bytes:
	// OpenRouter's has some hundred KB.
	fetchTimeout = 30 * time.Second
	maxList      = 8 << 20
)

// listClient reads lists of models. A redirect is no answer: the key is for the
// upstream alone. It keeps no connection for a day.
var listClient = &http.Client{
	Timeout:       fetchTimeout,
	Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// statusError is an answer that is no list.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("it answered %d %s", int(e), http.StatusText(int(e)))
}

// fetchModels returns what gets an upstream's list of models.
func fetchModels(u router.Upstream) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		raw, err := fetch(ctx, u)
		if err != nil && u.Key != "" { // there are servers that quote it
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

// redactedError is an error whose words are without a key.
type redactedError struct {
	error
	key string
}

func (e *redactedError) Error() string { return strings.ReplaceAll(e.error.Error(), e.key, "[key]") }
func (e *redactedError) Unwrap() error { return e.error }

// hasNoPrices says of an error that the upstream works, and lists no prices.
func hasNoPrices(err error) bool {
	var status statusError
	return errors.Is(err, price.ErrNoPrices) || errors.As(err, &status) && (status == http.StatusNotFound || status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented)
}
