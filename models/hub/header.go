package hub

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Header returns a reader of parts of a file, for its header. Each ReadAt is one request, for
// exactly the bytes that it is given room for, so callers read many at once. It is safe for
// concurrent use.
func (c *Client) Header(ctx context.Context, f File) io.ReaderAt {
	return remoteFile{ctx: ctx, client: c, file: f}
}

type remoteFile struct {
	ctx    context.Context //nolint:containedctx // io.ReaderAt's method has no parameter for it
	client *Client
	file   File
}

func (r remoteFile) ReadAt(p []byte, at int64) (int, error) {
	want := int64(len(p))
	if r.file.Size >= 0 {
		want = min(want, r.file.Size-at)
	}
	switch {
	case at < 0:
		return 0, fmt.Errorf("read at byte %d of %s", at, r.file.Path)
	case len(p) == 0:
		return 0, nil
	case want <= 0:
		return 0, io.EOF
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	resp, err := r.client.getRange(ctx, r.file, at, at+want)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if r.file.Size >= 0 {
		if err := checkRange(r.file, resp, at); err != nil {
			return 0, err
		}
	}
	body, stop := r.client.watchBody(resp, cancel)
	defer stop()
	n, err := io.ReadFull(body, p[:want])
	switch {
	case err != nil && r.file.Size < 0 && resp.ContentLength == int64(n): // the file ends here
		return n, io.EOF
	case err != nil:
		return n, r.client.connectError(ctx, r.file.URL, err)
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// getRange requests the bytes of a file from start up to end. The caller reads no more of
// the answer than that, and closes it.
func (c *Client) getRange(ctx context.Context, f File, start, end int64) (*http.Response, error) {
	resp, err := c.do(ctx, http.MethodGet, f.URL, http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", start, end-1)}})
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		return resp, nil
	case resp.StatusCode == http.StatusOK && start == 0: // no ranges: what follows is not read
		return resp, nil
	}
	defer closeBody(resp)
	if resp.StatusCode == http.StatusOK {
		return nil, errNoRanges
	}
	return nil, c.statusError(f.ref, resp)
}

var errNoRanges = permanentErrorf("the server does not send parts of a file: download it with llmsup pull, and name the file on disk")
