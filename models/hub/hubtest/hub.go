// Package hubtest is a Hugging Face hub for tests, with the shapes of the real one's API: a hub
// that knows repositories and a storage on another host that has their files. Package hub,
// cmd/llmsup and cmd/internal test with it; a command under test gets Environment.
//
// What it answers follows huggingface_hub (src/huggingface_hub, August 2026) and
// llama.cpp's common/hf-cache.cpp.
package hubtest

import (
	"crypto/sha1" //nolint:gosec // git's names of objects
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Tokens of the hub's users.
const (
	Token         = "hf_abcdefghijklmnopqrstuvwxyzabcdefgh" // has access to all repositories
	StrangerToken = "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" // has access to public repositories
)

// Repo is a repository with one commit, which is that of the branch main.
type Repo struct {
	Name    string // ORG/REPO
	Gated   bool   // only those who accepted its licence may download; all may list
	Private bool   // only Token sees it
	Files   []File
}

// File is a file of a repository.
type File struct {
	Path    string
	Content []byte
	Plain   bool   // it is in git itself, not in LFS: no SHA-256, and no redirect
	Xet     bool   // it is in the newer storage, which has a hash of its own
	SHA256  string // that the hub gives; "" = that of Content
}

// Request is a request that the hub or its storage received.
type Request struct {
	Host          string // HubHost or StorageHost
	Method, Path  string
	Authorization string
	Range         string
	Status        int
}

// Hub is a running hub. Set its fields before the first request.
type Hub struct {
	URL      string // HF_ENDPOINT
	PageSize int    // entries on a page of a list; 0 = all on one
	NoRanges bool   // the storage sends whole files only

	storage string // URL

	mu       sync.Mutex
	answers  func(w http.ResponseWriter, r *http.Request) bool // nil = nothing
	repos    map[string]*Repo
	requests []Request
	wrap     func(http.ResponseWriter, *http.Request) http.ResponseWriter
	served   atomic.Int64
}

// SetIntercept sets what may answer a request instead of the hub or its storage; it returns
// whether it has. nil = nothing.
func (h *Hub) SetIntercept(answers func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = answers
}

// Start starts a hub, which ends with the test.
func Start(t testing.TB, repos ...Repo) *Hub {
	t.Helper()
	h := &Hub{repos: map[string]*Repo{}}
	hub := httptest.NewServer(h.record(http.HandlerFunc(h.serveHub)))
	t.Cleanup(hub.Close)
	storage := httptest.NewServer(h.record(http.HandlerFunc(h.serveStorage)))
	t.Cleanup(storage.Close)
	h.URL = hub.URL
	// Another name of this machine: what may go to the hub must not go there.
	h.storage = strings.Replace(storage.URL, "127.0.0.1", "localhost", 1)
	for _, r := range repos {
		h.Set(r)
	}
	return h
}

// Set adds a repository, or replaces one, as a new commit does.
func (h *Hub) Set(r Repo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.Files = append([]File(nil), r.Files...)
	for i := range r.Files {
		f := &r.Files[i]
		if f.SHA256 == "" {
			sum := sha256.Sum256(f.Content)
			f.SHA256 = hex.EncodeToString(sum[:])
		}
	}
	sort.Slice(r.Files, func(i, j int) bool { return r.Files[i].Path < r.Files[j].Path })
	h.repos[r.Name] = &r
}

// Environment returns the variables with which a command uses the hub, without a token.
func (h *Hub) Environment() []string {
	return []string{"HF_ENDPOINT=" + h.URL, "HF_TOKEN=", "HF_TOKEN_PATH=/nonexistent/token", "HF_HUB_OFFLINE="}
}

// HubHost and StorageHost are the hosts of the two servers.
func (h *Hub) HubHost() string     { return hostOf(h.URL) }
func (h *Hub) StorageHost() string { return hostOf(h.storage) }

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// Requests returns what was requested so far.
func (h *Hub) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Request(nil), h.requests...)
}

// Served returns how many bytes of files were written to clients so far.
func (h *Hub) Served() int64 { return h.served.Load() }

// Commit returns the hash of a repository's commit. It changes with the files.
func (h *Hub) Commit(repo string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.repos[repo].commit()
}

func (r *Repo) commit() string {
	sum := sha1.New() //nolint:gosec // git's
	for _, f := range r.Files {
		fmt.Fprintln(sum, f.Path, f.SHA256)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// find returns a file of a repository.
func (r *Repo) find(path string) *File {
	for i := range r.Files {
		if r.Files[i].Path == path {
			return &r.Files[i]
		}
	}
	return nil
}

// record keeps each request and its status.
func (h *Hub) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.requests = append(h.requests, Request{
				Host: r.Host, Method: r.Method, Path: r.URL.Path, Authorization: r.Header.Get("Authorization"), Range: r.Header.Get("Range"), Status: s.status,
			})
		}()
		h.mu.Lock()
		answers := h.answers
		h.mu.Unlock()
		if answers != nil && answers(s, r) {
			return
		}
		next.ServeHTTP(s, r)
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var _ io.Writer = (*statusWriter)(nil)
