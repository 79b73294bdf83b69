package hub

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// maxLinkParts limits the parts of a split model at a URL, for each of which there is a
// request.
const maxLinkParts = 200

// listURL returns the model at a URL: of a split model all parts, which have the same
// address but for their number.
func (c *Client) listURL(ctx context.Context, ref Ref) (Listing, error) {
	c.setup()
	u, err := url.Parse(ref.URL)
	if err != nil {
		return Listing{}, permanentErrorf("%q is not a URL", ref.URL)
	}
	if strings.EqualFold(u.Host, c.base.Host) { // the hub's page about a file, as copied from a browser
		u.Path = strings.Replace(u.Path, "/blob/", "/resolve/", 1)
	}
	stem, number, count := partOf(u.Path)
	switch {
	case count < 1 || count > maxLinkParts:
		return Listing{}, permanentErrorf("%s says that its model has %d parts: a model has 1 to %d", path.Base(u.Path), count, maxLinkParts)
	case number != 1:
		return Listing{}, permanentErrorf("%s is part %d of %d: name the first part", path.Base(u.Path), number, count)
	}
	v := Variant{Quant: quantOf(strings.Trim(stem, "/"))}
	for part := 1; part <= count; part++ {
		if count > 1 {
			u.Path = fmt.Sprintf("%s-%05d-of-%05d%s", stem, part, count, path.Ext(u.Path))
		}
		f, err := c.describe(ctx, ref, u.String())
		if err != nil {
			return Listing{}, err
		}
		v.Files = append(v.Files, f)
	}
	return Listing{Ref: ref, Variants: []Variant{v}}, nil
}

// describe returns what a server says of a file: its size, and the hash if it is a hub.
func (c *Client) describe(ctx context.Context, ref Ref, address string) (File, error) {
	c.setup()
	u, err := url.Parse(address)
	if err != nil {
		return File{}, permanentErrorf("%q is not a URL", address)
	}
	ask := ref
	ask.URL = address
	f := File{Path: path.Base(u.Path), Size: -1, URL: address, ref: ask}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Not HEAD: a redirect's signature may be for GET alone.
	resp, err := c.do(ctx, http.MethodGet, address, http.Header{"Range": {"bytes=0-3"}})
	if err != nil {
		return File{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		f.validator = validator(resp.Header)
		if _, total, ok := strings.Cut(resp.Header.Get("Content-Range"), "/"); ok {
			f.Size = sizeOr(total, -1)
		}
	case http.StatusOK:
		f.Size, f.whole = min(resp.ContentLength, maxFileSize), true
	default:
		return File{}, c.statusError(ask, resp)
	}
	f.modified, _ = http.ParseTime(resp.Header.Get("Last-Modified")) // zero if there is none
	body, stop := c.watchBody(resp, cancel)
	defer stop()
	start := make([]byte, len(magic))
	_, err = io.ReadFull(body, start)
	switch {
	case ctx.Err() != nil:
		return File{}, c.connectError(ctx, address, err)
	case err != nil || string(start) != magic:
		return File{}, notGGUF(f)
	}
	// A hub says more before it redirects to its storage.
	for hop := resp; hop != nil; hop = hop.Request.Response {
		if etag := strings.ToLower(strings.Trim(hop.Header.Get("X-Linked-Etag"), `"`)); sha256Hash.MatchString(etag) {
			f.SHA256 = etag
		}
		f.Size = sizeOr(hop.Header.Get("X-Linked-Size"), f.Size)
	}
	return f, nil
}

// sizeOr returns a number of bytes from a header, or another where it has none.
func sizeOr(text string, other int64) int64 {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 && n <= maxFileSize {
		return n
	}
	return other
}

// magic is the start of every GGUF file.
const magic = "GGUF"

// notGGUFError is a file of another format.
type notGGUFError struct{ error }

func notGGUF(f File) error {
	return permanentError{notGGUFError{fmt.Errorf("%s is not a GGUF file, whatever its name says: check the reference", withoutQuery(f.URL))}}
}
