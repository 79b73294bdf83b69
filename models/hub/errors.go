package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// permanentError is a failure that a later attempt has too, unless the user changes
// something.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func isPermanent(err error) bool {
	_, permanent := errors.AsType[permanentError](err)
	return permanent
}

// IsTemporary reports whether the same call may succeed later, without the user's help: the
// network or the server failed. A full disk is not temporary, nor is a call that was
// cancelled. A timeout is: net and net/http report one as context.DeadlineExceeded.
func IsTemporary(err error) bool {
	return err != nil && !isPermanent(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, syscall.ENOSPC)
}

// mayRepeat reports whether a download goes on after an error.
func mayRepeat(err error) bool {
	_, limited := errors.AsType[*LimitedError](err)
	return IsTemporary(err) && !limited
}

// statusError returns what an answer with an error status means, as one sentence. The hub
// answers 401 for a repository that is missing or private to a client without a token.
func (c *Client) statusError(ref Ref, resp *http.Response) error {
	code, status := resp.Header.Get("X-Error-Code"), resp.StatusCode
	what, host := ref.name(), resp.Request.URL.Host
	switch {
	case code == "GatedRepo" && c.Token == "":
		return permanentErrorf("%s is gated: accept its licence at %s, then set HF_TOKEN to a token of that account (%s/settings/tokens)", what, c.page(ref), c.endpoint())
	case code == "GatedRepo":
		return permanentErrorf("%s is gated, and the account of your token has no access yet: accept the licence at %s", what, c.page(ref))
	case code == "RevisionNotFound" && ref.Revision != "":
		return permanentErrorf("%s has no revision %q: leave out @%s, or name a branch, tag or commit", what, ref.Revision, ref.Revision)
	case code == "EntryNotFound" && ref.URL == "":
		return permanentErrorf("%s has no such file any more: try again", what)
	case resp.Header.Get("X-Error-Message") == "Invalid credentials in Authorization header":
		return permanentErrorf("%s does not accept your token: renew it (%s/settings/tokens), or unset HF_TOKEN for public models", host, c.endpoint())
	case resp.Header.Get("X-Error-Message") == "Access to this resource is disabled.":
		return permanentErrorf("%s was disabled by the hub: choose another repository", what)
	case ref.URL == "" && (code == "RepoNotFound" || status == http.StatusUnauthorized || status == http.StatusNotFound):
		return c.missing(ref)
	case status == http.StatusNotFound || status == http.StatusGone:
		return permanentErrorf("%s does not exist (%s answered %d): check the URL", what, host, status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return permanentErrorf("%s does not allow the download of %s (%d): check that your account may have it", host, what, status)
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%s limits how often it is asked (429): try again in some minutes", host)
	case status >= 500:
		return fmt.Errorf("%s failed with %d: try again later", host, status)
	}
	return permanentErrorf("%s answered %d to the request for %s", host, status, what)
}

// missing is the error for a repository that the hub does not show.
func (c *Client) missing(ref Ref) error {
	switch {
	case c.Token == "":
		return permanentErrorf("%s does not exist at %s, or is private: check the name; for a private repository set HF_TOKEN", ref.name(), c.base.Host)
	case !c.mayHaveToken(c.base):
		return permanentErrorf("%s does not exist at %s, or is private: check the name; your token was not sent, since HF_ENDPOINT is not https", ref.name(), c.base.Host)
	}
	return permanentErrorf("%s does not exist at %s, or is private and your token has no access: check the name and the token", ref.name(), c.base.Host)
}

// page returns the web page of a repository.
func (c *Client) page(ref Ref) string { return c.endpoint() + "/" + ref.Org + "/" + ref.Repo }

// name returns a reference for a message: without what a URL may have that is secret.
func (r Ref) name() string {
	if r.URL != "" {
		return withoutQuery(r.URL)
	}
	return r.Org + "/" + r.Repo
}

func permanentErrorf(format string, args ...any) error {
	return permanentError{fmt.Errorf(format, args...)}
}

// connectError returns why there is no answer, without the address, whose query may have a
// signature. Its host is that of the request, which may have been redirected.
func (c *Client) connectError(ctx context.Context, address string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	host := hostOf(address)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		host, err = hostOf(failed.URL), failed.Err
	}
	if isPermanent(err) {
		return permanentErrorf("cannot download from %s: %w", host, err)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("cannot find %s: %s: check the network%s", host, dns.Err, c.orEndpoint(host))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%s closed the connection in the middle of an answer", host)
	}
	return fmt.Errorf("cannot reach %s: %w: check the network%s", host, err, c.orEndpoint(host))
}

// orEndpoint adds to a message the variable that names the hub, if the host is the hub's.
func (c *Client) orEndpoint(host string) string {
	if host == c.base.Host {
		return ", or HF_ENDPOINT"
	}
	return ""
}

func hostOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return "the server"
}

// withoutQuery returns a URL without its query, which may have a signature.
func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "the URL"
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String()
}
