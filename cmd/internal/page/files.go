package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var static embed.FS

const indexFile = "index.html"

// file is a file of the page.
type file struct {
	content  []byte
	mimeType string
	etag     string
}

// files returns the files of the page by name.
func files() map[string]file {
	all := map[string]file{}
	_ = fs.WalkDir(static, "static", func(at string, entry fs.DirEntry, err error) error { // of an embedded tree, no step fails
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := static.ReadFile(at)
		sum := sha256.Sum256(content)
		all[strings.TrimPrefix(at, "static/")] = file{content, mimeType(at), `"` + hex.EncodeToString(sum[:8]) + `"`}
		return err
	})
	return all
}

// mimeType returns the type of a file. It does not depend on the types that the machine
// knows, which may be wrong.
func mimeType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// views are the paths of the page's views, which index.html shows.
var views = []string{"now", "calls", "calls/{id}", "money", "models", "fleet", "logs", "try"}

// handlePages serves index.html and the files that it loads. They contain no data, so
// that they need no key.
func (h *Handler) handlePages() {
	index := func(w http.ResponseWriter, r *http.Request) { h.serveFile(w, r, indexFile) }
	h.paths.HandleFunc("GET /ui/{$}", index)
	for _, view := range views {
		h.paths.HandleFunc("GET /ui/"+view, index)
	}
	h.paths.Handle("GET /ui/calls/{$}", http.RedirectHandler("/ui/calls", http.StatusFound))
	h.paths.HandleFunc("GET /ui/static/{name...}", func(w http.ResponseWriter, r *http.Request) { h.serveFile(w, r, r.PathValue("name")) })
}

func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	f, ok := h.static[name]
	if !ok {
		h.notFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", f.mimeType)
	header.Set("ETag", f.etag)
	header.Set("Cache-Control", "no-cache") // a browser keeps it, and asks each time whether it has changed
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.content))
}
