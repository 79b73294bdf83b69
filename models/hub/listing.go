package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	maxAnswer = 32 << 20 // bytes of an answer of the API, and of all pages of a list
	maxPages  = 100      // of a list; the hub has 1,000 files on a page
)

// Listing has the GGUF files of a reference.
type Listing struct {
	Ref        Ref
	Commit     string    // of which the files are; "" for a URL
	Variants   []Variant // by size, the smallest first
	Projectors []File    // for images or sound, which are no models of their own
}

// File is a file of a repository, or of a URL.
type File struct {
	Path   string // in the repository; for a URL its last part
	Size   int64  // bytes; -1 = unknown
	SHA256 string // hexadecimal; "" = unknown
	URL    string // where the hub has it, without a signature

	ref       Ref
	validator string    // of a URL's content: changes with it; "" = unknown
	modified  time.Time // of a URL's content; zero = unknown
	whole     bool      // the server sends no parts of it
}

// Local returns where Download puts the file, below the folder dir.
func (f File) Local(dir string) string {
	return filepath.Join(dir, f.ref.folder(), filepath.FromSlash(f.Path))
}

// treeEntry is what the hub's API says of a file.
type treeEntry struct {
	Type string    `json:"type"` // file or directory
	Path string    `json:"path"`
	Size int64     `json:"size"`
	LFS  *lfsEntry `json:"lfs"`
}

type lfsEntry struct {
	OID  string `json:"oid"` // the SHA-256; the hub keeps it for files in its Xet storage too
	Size int64  `json:"size"`
}

// List returns the GGUF files of a reference, all of one commit. Errors are one sentence;
// IsTemporary tells them apart.
func (c *Client) List(ctx context.Context, ref Ref) (Listing, error) {
	if ref.URL != "" {
		return c.listURL(ctx, ref)
	}
	commit, err := c.commit(ctx, ref)
	if err != nil {
		return Listing{}, err
	}
	files, err := c.tree(ctx, ref, commit)
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Ref: ref, Commit: commit}
	l.Variants, l.Projectors = groupFiles(files)
	if len(l.Variants) == 0 {
		return Listing{}, permanentErrorf("%s has no GGUF files: search the hub for the model's name with GGUF", ref.name())
	}
	return l, nil
}

// Variants returns the models of a reference, by size.
func (c *Client) Variants(ctx context.Context, ref Ref) ([]Variant, error) {
	l, err := c.List(ctx, ref)
	return l.Variants, err
}

var commitHash = regexp.MustCompile(`^[0-9a-f]{40}$`)

// commit returns the commit that a reference's revision means now.
func (c *Client) commit(ctx context.Context, ref Ref) (string, error) {
	address := c.endpoint() + "/api/models/" + ref.Org + "/" + ref.Repo
	if ref.Revision != "" {
		address += "/revision/" + url.PathEscape(ref.Revision)
	}
	body, _, err := c.get(ctx, ref, address)
	if err != nil {
		return "", err
	}
	var about struct {
		SHA string `json:"sha"`
	}
	if err := json.Unmarshal(body, &about); err != nil || !commitHash.MatchString(about.SHA) {
		return "", permanentErrorf("%s does not answer as a hub does: check HF_ENDPOINT", c.endpoint())
	}
	return about.SHA, nil
}

// tree returns the GGUF files of a commit.
func (c *Client) tree(ctx context.Context, ref Ref, commit string) (files []File, err error) {
	address := fmt.Sprintf("%s/api/models/%s/%s/tree/%s?recursive=true", c.endpoint(), ref.Org, ref.Repo, commit)
	seen, total := map[string]bool{}, 0
	for len(seen) < maxPages && total <= maxAnswer {
		if seen[address] {
			return nil, permanentErrorf("%s repeats a page of the list of files of %s: check HF_ENDPOINT", c.endpoint(), ref.name())
		}
		seen[address] = true
		body, header, err := c.get(ctx, ref, address)
		if err != nil {
			return nil, err
		}
		total += len(body)
		var entries []treeEntry
		if err := json.Unmarshal(body, &entries); err != nil {
			return nil, permanentErrorf("%s does not answer as a hub does: check HF_ENDPOINT", c.endpoint())
		}
		for _, e := range entries {
			if f, ok := c.file(ref, commit, e); ok {
				files = append(files, f)
			}
		}
		if address = c.nextPage(address, header.Values("Link")); address == "" {
			return files, nil
		}
	}
	return nil, permanentErrorf("%s has too many files to list", ref.name())
}

// maxFileSize is more than any file of a model has, in bytes. Larger sizes are a server's fault,
// and their sum could overflow.
const maxFileSize = 1 << 50

var sha256Hash = regexp.MustCompile(`^[0-9a-f]{64}$`)

// file returns a file of the API, unless it is no GGUF file, or has a name that cannot be
// stored.
func (c *Client) file(ref Ref, commit string, e treeEntry) (File, bool) {
	if e.Type != "file" || !isGGUF(e.Path) || !safePath(e.Path) || e.Size < 0 {
		return File{}, false
	}
	f := File{Path: e.Path, Size: e.Size, ref: ref}
	if e.LFS != nil {
		if hash := strings.ToLower(e.LFS.OID); sha256Hash.MatchString(hash) {
			f.SHA256, f.Size = hash, e.LFS.Size
		}
	}
	f.URL = fmt.Sprintf("%s/%s/%s/resolve/%s/%s", c.endpoint(), ref.Org, ref.Repo, commit, (&url.URL{Path: e.Path}).EscapedPath())
	return f, f.Size >= 0 && f.Size <= maxFileSize
}

var nextLink = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage returns the address of a list's next page; "" = there is none. It is one of the
// client's own hub: a mirror may pass on a link to the original.
func (c *Client) nextPage(address string, links []string) string {
	found := nextLink.FindStringSubmatch(strings.Join(links, ", "))
	if found == nil {
		return ""
	}
	base, err := url.Parse(address)
	if err != nil {
		return ""
	}
	next, err := base.Parse(found[1])
	if err != nil {
		return ""
	}
	next.Scheme, next.Host = base.Scheme, base.Host
	return next.String()
}
