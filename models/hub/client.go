package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// DefaultEndpoint is the public hub.
const DefaultEndpoint = "https://huggingface.co"

// Client talks to one hub. Its fields must not change after the first call. It is safe for
// concurrent use.
type Client struct {
	Endpoint  string            // of the hub, without a slash at its end; "" = DefaultEndpoint
	Token     string            // of the user; "" = none
	Offline   bool              // each call fails at once
	UserAgent string            // "" = llmsup
	Notify    func(text string) // receives what takes long and why, such as "the hub asks to wait 30 s"; nil = not wanted

	pieceSize int64         // bytes, the least of a piece; 0 = minPieceSize
	idle      time.Duration // without a byte, after which a connection is given up; 0 = idleTimeout
	firstWait time.Duration // before a request is repeated; 0 = minRetryWait

	once   sync.Once
	http   *http.Client
	base   *url.URL
	limits limits
}

// FromEnvironment returns a client with the settings of the hub's own tools: HF_ENDPOINT,
// HF_HUB_OFFLINE, and the token in HF_TOKEN, else in the file that HF_TOKEN_PATH names, else
// in $HF_HOME/token, by default ~/.cache/huggingface/token.
func FromEnvironment() (*Client, error) {
	endpoint := strings.TrimRight(cmp.Or(os.Getenv("HF_ENDPOINT"), DefaultEndpoint), "/")
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("HF_ENDPOINT is not the URL of a hub (example: %s)", DefaultEndpoint)
	}
	token, err := tokenFromEnvironment()
	if err != nil {
		return nil, err
	}
	return &Client{Endpoint: endpoint, Token: token, Offline: isTrue(os.Getenv("HF_HUB_OFFLINE"))}, nil
}

// isTrue reports whether a variable is set in the sense of the hub's tools.
func isTrue(value string) bool {
	switch strings.ToUpper(value) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

func tokenFromEnvironment() (string, error) {
	token, from := os.Getenv("HF_TOKEN"), "HF_TOKEN"
	if token == "" {
		path := tokenFile()
		content, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && os.Getenv("HF_TOKEN_PATH") == "":
			return "", nil // a service may be unable to read the home folder
		case err != nil:
			return "", fmt.Errorf("read the hub's token: %w; set HF_TOKEN, or remove the file", err)
		}
		token, from = string(content), path
	}
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("the token in %s has characters that no token has; it is hf_ with letters and digits", from)
	}
	return token, nil
}

// tokenFile returns the path of the file in which the hub's tools keep the token; "" = none.
func tokenFile() string {
	if path := os.Getenv("HF_TOKEN_PATH"); path != "" {
		return path
	}
	home := os.Getenv("HF_HOME")
	if home == "" {
		cache, err := os.UserCacheDir() // $XDG_CACHE_HOME, else ~/.cache
		if err != nil {
			return ""
		}
		home = filepath.Join(cache, "huggingface")
	}
	return filepath.Join(home, "token")
}

// endpoint returns the hub's URL.
func (c *Client) endpoint() string {
	return strings.TrimRight(cmp.Or(c.Endpoint, DefaultEndpoint), "/")
}

// mayHaveToken reports whether the token may go to a URL: only to the hub itself, and over an
// unencrypted connection only on this machine.
func (c *Client) mayHaveToken(u *url.URL) bool {
	same := u.Scheme == c.base.Scheme && strings.EqualFold(u.Host, c.base.Host)
	return same && (u.Scheme == "https" || isLoopback(u.Hostname()))
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
