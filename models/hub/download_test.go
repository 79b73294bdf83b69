package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// download downloads the model of a reference into a folder with pieces of 1,000 bytes.
func downloadRef(t *testing.T, ctx context.Context, c *Client, ref, dir string) (string, error) { //nolint:revive // ctx is not that of the test
	t.Helper()
	c.pieceSize = 1000
	l, err := c.List(ctx, parse(t, ref))
	if err != nil {
		return "", err
	}
	v, ok, err := l.Find()
	if err != nil || !ok {
		t.Fatal(ref, ok, err)
	}
	return c.Download(ctx, v, dir, nil)
}

// onDisk returns the files in a folder and those below it, with their sizes.
func onDisk(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// holds checks that a file has a content.
func holds(t *testing.T, path string, content []byte) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s has %d bytes, %v; want %d", path, len(got), err, len(content))
	}
}

const size = 10_500 // bytes of a model in these tests: ten pieces and a half

func TestDownload(t *testing.T) {
	content := gguf(size)
	for name, tc := range map[string]struct {
		file   hubtest.File
		ref    string // "" = hf:a/b
		hub    func(h *hubtest.Hub)
		dir    func(t *testing.T, path string) // prepares what is there before
		path   string                          // "" = m-Q8_0.gguf in the folder of ref
		err    string
		served int64 // most bytes that are served; 0 = the model and 4 bytes for a URL
	}{
		"in LFS":                 {},
		"in Xet storage":         {file: hubtest.File{Xet: true}},
		"in git, without a hash": {file: hubtest.File{Plain: true}},
		"a pinned revision":      {ref: "hf:a/b@main", path: "a/b@main/m-Q8_0.gguf"},
		"a URL of the hub":       {ref: "URL/a/b/resolve/main/m-Q8_0.gguf"},
		"a URL elsewhere":        {ref: "URL/files/m-Q8_0.gguf", hub: serveFile(content, true)},
		"a URL of a server that does not say the size": {ref: "URL/files/m-Q8_0.gguf", hub: serveFile(content, false), served: 1},
		"connections that break":                       {hub: func(h *hubtest.Hub) { h.Cut(30, 300) }},
		"connections that break at once":               {hub: func(h *hubtest.Hub) { h.Cut(5, 0) }},
		"connections that break in a whole":            {hub: func(h *hubtest.Hub) { h.NoRanges = true; h.Cut(2, 3000) }, served: 20 * size},
		"a storage without ranges":                     {hub: func(h *hubtest.Hub) { h.NoRanges = true }, served: 20 * size},
		"a hub that asks to wait":                      {hub: refuse(http.StatusTooManyRequests, 3)},
		"a hub that fails now and then":                {hub: refuse(http.StatusBadGateway, 3)},
		"another hash":                                 {file: hubtest.File{SHA256: strings.Repeat("12", 32)}, err: "m-Q8_0.gguf arrived with the SHA-256 "},
		"not a GGUF file":                              {file: hubtest.File{Content: bytes.Repeat([]byte("<html>"), 2000)}, err: "is not a GGUF file", served: 12_000},
		"there already":                                {dir: func(t *testing.T, path string) { writeFile(t, path, content) }, served: -1},
		"another is there":                             {dir: func(t *testing.T, path string) { writeFile(t, path, gguf(size-1)) }},
		"another of the same size is there":            {dir: func(t *testing.T, path string) { writeFile(t, path, append([]byte("GGUF"), make([]byte, size-4)...)) }},
		"whole, but not verified":                      {dir: func(t *testing.T, path string) { writeFile(t, path+".part", content) }, served: -1},
		"whole, and damaged":                           {dir: func(t *testing.T, path string) { writeFile(t, path+".part", gguf(size)[:size-1], "x") }, served: -1, err: "arrived with the SHA-256"},
		"a partial file of another program":            {dir: func(t *testing.T, path string) { writeFile(t, path+".part", []byte("something")) }},
		"a partial file that is damaged": {dir: func(t *testing.T, path string) {
			writeFile(t, path+".part", bytes.Repeat([]byte("llmsup\x01\n"), 3000))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.file
			f.Path = "m-Q8_0.gguf"
			if f.Content == nil {
				f.Content = content
			}
			h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{f}})
			if tc.hub != nil {
				tc.hub(h)
			}
			dir := t.TempDir()
			ref := strings.Replace(tc.ref, "URL", h.URL, 1)
			if ref == "" {
				ref = "hf:a/b"
			}
			path := filepath.Join(dir, parse(t, ref).folder(), "m-Q8_0.gguf")
			if tc.path != "" {
				path = filepath.Join(dir, tc.path)
			}
			if tc.dir != nil {
				tc.dir(t, path)
			}
			got, err := downloadRef(t, t.Context(), client(h, ""), ref, dir)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || IsTemporary(err) || len(onDisk(t, dir)) > 0 {
					t.Errorf("%v, and there are %q", err, onDisk(t, dir))
				}
				return
			}
			if err != nil || got != path {
				t.Fatalf("%s, %v", got, err)
			}
			holds(t, path, content)
			if files := onDisk(t, dir); len(files) != 1 {
				t.Errorf("there are %q", files)
			}
			most := max(tc.served, 0)
			if tc.served == 0 {
				most = size + 4
			}
			if tc.served != 1 && h.Served() > most {
				t.Errorf("%d bytes were served, more than %d", h.Served(), most)
			}
			checkHosts(t, h)
		})
	}
}

// TestWithoutHash: of a URL without a hash, a file of the same size is kept unless the server has a newer
// one.
func TestWithoutHash(t *testing.T) {
	content := gguf(size)
	other := append([]byte("GGUF"), make([]byte, size-4)...)
	h := hubtest.Start(t)
	for name, tc := range map[string]struct {
		modified time.Time // at the server
		kept     bool
	}{
		"older":   {time.Now().Add(-time.Hour), true},
		"newer":   {time.Now().Add(time.Hour), false},
		"unknown": {time.Time{}, true},
	} {
		h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
			http.ServeContent(w, r, "", tc.modified, bytes.NewReader(content))
			return true
		})
		dir := t.TempDir()
		path := filepath.Join(dir, parse(t, h.URL+"/m.gguf").folder(), "m.gguf")
		writeFile(t, path, other)
		got, err := downloadRef(t, t.Context(), client(h, ""), h.URL+"/m.gguf", dir)
		if err != nil || got != path {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if tc.kept {
			holds(t, path, other)
		} else {
			holds(t, path, content)
		}
	}
}

// TestRevisionFolders: revisions have folders of their own.
func TestRevisionFolders(t *testing.T) {
	seen := map[string]string{}
	for _, revision := range []string{"", "a/b", "a-b", "a_b", "a.b", "a", "refs/pr/1"} {
		text := "hf:org/repo"
		if revision != "" {
			text += "@" + revision
		}
		folder := parse(t, text).folder()
		if other, taken := seen[folder]; taken || strings.Count(folder, "/") != 1 || !safePath(folder) {
			t.Errorf("%s is in %s, as is %s", text, folder, other)
		}
		seen[folder] = text
	}
}

func writeFile(t *testing.T, path string, content []byte, more ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(slices.Clone(content), strings.Join(more, "")...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveFile has the hub's host serve a file as any web server does, with or without its size.
func serveFile(content []byte, sized bool) func(*hubtest.Hub) {
	return func(h *hubtest.Hub) {
		h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case !strings.HasPrefix(r.URL.Path, "/files/"):
				return false
			case sized:
				w.Header().Set("ETag", `"v1"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
			default:
				_, _ = w.Write(content[:1])
				_ = http.NewResponseController(w).Flush()
				_, _ = w.Write(content[1:])
			}
			return true
		})
	}
}

// refuse has each address answer a status so many times before it works.
func refuse(status, times int) func(*hubtest.Hub) {
	return func(h *hubtest.Hub) {
		var mu sync.Mutex
		seen := map[string]int{}
		h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			id := r.Host + r.URL.Path + r.Header.Get("Range")
			seen[id]++
			if seen[id] > times {
				return false
			}
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(status)
			return true
		})
	}
}

// checkHosts fails if a header with a secret left the hub's host.
func checkHosts(t *testing.T, h *hubtest.Hub) {
	t.Helper()
	for _, r := range h.Requests() {
		if r.Authorization != "" {
			t.Errorf("%+v", r)
		}
	}
}

// TestShards: all parts have their names or none, and a download that ended is continued.
func TestShards(t *testing.T) {
	var repo hubtest.Repo
	repo.Name = "a/b"
	for i := range 3 {
		repo.Files = append(repo.Files, hubtest.File{Path: fmt.Sprintf("Q8_0/m-Q8_0-%05d-of-00003.gguf", i+1), Content: append(gguf(size), byte(i))})
	}
	h := hubtest.Start(t, repo)
	dir := t.TempDir()
	next := make(chan struct{})
	h.Slow(100, next)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error)
	go func() {
		_, err := downloadRef(t, ctx, client(h, ""), "hf:a/b", dir)
		ended <- err
	}()
	for h.Served() < size*9/5 { // in the second file: some of its pieces are complete
		next <- struct{}{}
	}
	cancel()
	if err := <-ended; err == nil || IsTemporary(err) {
		t.Errorf("a cancelled download: %v", err)
	}
	close(next)
	for _, path := range onDisk(t, dir) {
		if !strings.HasSuffix(path, ".gguf.part") {
			t.Errorf("%s is there", path)
		}
	}
	partials, err := Partials(dir)
	if err != nil || len(partials) != 2 || partials[0].Done != size+1 || partials[0].Size != size+1 || partials[1].Done == 0 || partials[1].Done >= size || partials[1].Path != filepath.Join(dir, "a/b/Q8_0/m-Q8_0-00002-of-00003.gguf") {
		t.Errorf("%+v, %v", partials, err)
	}
	before := h.Served()
	path, err := downloadRef(t, t.Context(), client(h, ""), "hf:a/b:Q8_0", dir)
	if err != nil || path != filepath.Join(dir, "a/b/Q8_0/m-Q8_0-00001-of-00003.gguf") {
		t.Fatalf("%s, %v", path, err)
	}
	for _, f := range repo.Files {
		holds(t, filepath.Join(dir, "a/b", f.Path), f.Content)
	}
	// What the client had not read when it was cancelled was served twice, and the hub may have
	// noticed late that it was gone.
	missing, served := 3*(size+1)-partials[0].Done-partials[1].Done, h.Served()-before
	if served < missing || served > missing+1000 {
		t.Errorf("%d bytes were served, and %d were missing", served, missing)
	}
	if left, err := Partials(dir); err != nil || len(left) != 0 {
		t.Errorf("%+v, %v", left, err)
	}
}

// TestTwoDownloads: of two downloads of the same file at once, the second waits and downloads nothing.
func TestTwoDownloads(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(size)}}})
	dir := t.TempDir()
	next := make(chan struct{})
	h.Slow(1000, next)
	l, err := client(h, "").List(t.Context(), parse(t, "hf:a/b"))
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	var once sync.Once
	start := func(report func(Progress)) <-chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := client(h, "").Download(t.Context(), l.Variants[0], dir, report)
			ended <- err
		}()
		return ended
	}
	first := start(nil)
	next <- struct{}{}
	second := start(func(p Progress) {
		if p.Phase == Waiting {
			once.Do(func() { close(waiting) })
		}
	})
	<-waiting
	partials, err := Partials(dir)
	if err != nil || len(partials) != 1 || partials[0].Remove() == nil {
		t.Errorf("a file that is being downloaded was removed: %+v, %v", partials, err)
	}
	close(next)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := <-second; err != nil {
		t.Error(err)
	}
	holds(t, filepath.Join(dir, "a/b/m-Q8_0.gguf"), gguf(size))
	if h.Served() != size || len(onDisk(t, dir)) != 1 {
		t.Errorf("%d bytes were served; there are %q", h.Served(), onDisk(t, dir))
	}
}

// TestChangedURL: a file that changes at a server without hashes is not mixed from both versions.
func TestChangedURL(t *testing.T) {
	h := hubtest.Start(t)
	var mu sync.Mutex
	version, asked := 1, 0
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == 4 {
			version = 2
		}
		w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, version))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(gguf(size), byte(version))))
		return true
	})
	dir := t.TempDir()
	if _, err := downloadRef(t, t.Context(), client(h, ""), h.URL+"/m.gguf", dir); err == nil || !strings.Contains(err.Error(), "changed at the server") {
		t.Error(err)
	}
	if _, err := downloadRef(t, t.Context(), client(h, ""), h.URL+"/m.gguf", dir); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, parse(t, h.URL+"/m.gguf").folder(), "m.gguf"), append(gguf(size), 2))
}

// TestSameNameURLs: two URLs whose files have one name and one size are two files, and a URL
// with another query is the same file.
func TestSameNameURLs(t *testing.T) {
	h := hubtest.Start(t)
	modified := time.Now().Add(-time.Hour)
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.ServeContent(w, r, "", modified, bytes.NewReader(append(gguf(size), r.URL.Path[1])))
		return true
	})
	dir, paths := t.TempDir(), map[string]string{}
	for _, at := range []string{"/a/m.gguf?signature=1", "/b/m.gguf", "/a/m.gguf?signature=2"} {
		got, err := downloadRef(t, t.Context(), client(h, ""), h.URL+at, dir)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, got, append(gguf(size), at[1]))
		paths[got] = at
	}
	if len(paths) != 2 {
		t.Errorf("%v", paths)
	}
}

// TestFullDisk: a download that has no room is refused before it begins.
func TestFullDisk(t *testing.T) {
	c := &Client{}
	f := File{Path: "m-Q8_0.gguf", Size: 1 << 60, SHA256: strings.Repeat("12", 32), ref: Ref{Org: "a", Repo: "b"}}
	dir := t.TempDir()
	_, err := c.Download(t.Context(), Variant{Files: []File{f}}, dir, nil)
	if err == nil || !strings.Contains(err.Error(), "the disk of "+dir+"/a/b has ") || !strings.Contains(err.Error(), "the download needs 1073741824.0 GiB") || IsTemporary(err) || len(onDisk(t, dir)) > 0 {
		t.Error(err)
	}
}

// TestPrivate: the token is sent to the hub for each file, and never to its storage.
func TestPrivate(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Private: true, Gated: true, Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(size), Xet: true}}})
	dir := t.TempDir()
	if _, err := downloadRef(t, t.Context(), client(h, hubtest.Token), "hf:a/b", dir); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "a/b/m-Q8_0.gguf"), gguf(size))
	checkTokens(t, h)
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/files/") && r.Header.Get("Authorization") == "" {
			_, _ = w.Write(gguf(size))
			return true
		}
		return false
	})
	if _, err := downloadRef(t, t.Context(), client(h, hubtest.Token), "http://"+h.StorageHost()+"/files/m.gguf", dir); err != nil {
		t.Errorf("the token was sent to another host than the hub: %v", err)
	}
	gated := filepath.Join(dir, "gated")
	h.Set(hubtest.Repo{Name: "a/b", Gated: true, Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(size)}}})
	if _, err := downloadRef(t, t.Context(), client(h, hubtest.StrangerToken), "hf:a/b", gated); err == nil || !strings.Contains(err.Error(), "is gated") || len(onDisk(t, gated)) > 0 {
		t.Error(err)
	}
}

// TestStalled: a connection on which nothing arrives any more is replaced.
func TestStalled(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(size)}}})
	reached, release := h.Hold(3000)
	c := client(h, "")
	c.idle = 100 * time.Millisecond
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() {
		_, err := downloadRef(t, t.Context(), c, "hf:a/b", dir)
		ended <- err
	}()
	<-reached
	before := len(h.Requests()) // those that stalled are in the list once they have ended
	for len(h.Requests()) == before {
		time.Sleep(time.Millisecond)
	}
	release()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "a/b/m-Q8_0.gguf"), gguf(size))
}

// TestChangedRepository: what is there of an earlier commit's file is not continued.
func TestChangedRepository(t *testing.T) {
	dir := t.TempDir()
	repo := func(content []byte) hubtest.Repo {
		return hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: content}}}
	}
	h := hubtest.Start(t, repo(gguf(size)))
	reached, release := h.Hold(size / 2)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		for left, err := Partials(dir); err != nil || len(left) == 0 || left[0].Done == 0; left, err = Partials(dir) {
		}
		cancel()
	}()
	if _, err := downloadRef(t, ctx, client(h, ""), "hf:a/b", dir); err == nil || len(onDisk(t, dir)) != 1 {
		t.Fatalf("%v, and there are %q", err, onDisk(t, dir))
	}
	release()
	changed := append([]byte("GGUF"), bytes.Repeat([]byte("x"), size-4)...)
	h.Set(repo(changed))
	path, err := downloadRef(t, t.Context(), client(h, ""), "hf:a/b", dir)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, path, changed)
}

// TestSilentServer: an answer that does not begin in time is a failure that passes.
func TestSilentServer(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(900)}}})
	var mu sync.Mutex
	silent := retries + 3 // more than a request is repeated
	h.SetIntercept(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		hangs := r.Host == h.StorageHost() && silent > 0
		if hangs {
			silent--
		}
		mu.Unlock()
		if hangs {
			<-r.Context().Done()
		}
		return hangs
	})
	c := client(h, "")
	c.setup()
	c.http.Transport.(authorization).next.(*http.Transport).ResponseHeaderTimeout = 100 * time.Millisecond
	path, err := downloadRef(t, t.Context(), c, "hf:a/b", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	holds(t, path, gguf(900))
}

// TestStalledAnswer: a list or a header whose body stops arriving is a failure that passes, and
// does not hang.
func TestStalledAnswer(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: gguf(900)}}})
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "900")
		w.Header().Set("Content-Range", "bytes 0-899/900")
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write([]byte("GGU"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	c := client(h, "")
	c.idle = 50 * time.Millisecond
	address := h.URL + "/x.gguf"
	for name, ask := range map[string]func() error{
		"a list":    func() error { _, err := c.List(t.Context(), Ref{Org: "a", Repo: "b"}); return err },
		"the start": func() error { _, err := c.List(t.Context(), Ref{URL: address}); return err },
		"a header": func() error {
			_, err := c.Header(t.Context(), File{Path: "x.gguf", Size: 900, URL: address}).ReadAt(make([]byte, 900), 0)
			return err
		},
	} {
		if err := ask(); !errors.Is(err, errIdle) || !IsTemporary(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.Header(t.Context(), File{Path: "x.gguf", Size: 900, URL: address}).ReadAt(make([]byte, 10), 100)
	if err == nil || !strings.Contains(err.Error(), "sent the range") {
		t.Errorf("another range: %v", err)
	}
}
