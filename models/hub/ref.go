package hub

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// Ref names a model: a repository of a hub, or the URL of a file. Exactly one of Repo and URL
// is set.
type Ref struct {
	Org, Repo string
	Quant     string // such as Q4_K_M, in capitals; "" = not named
	File      string // path of one file in the repository, instead of Quant
	Revision  string // a branch, tag or commit; "" = main
	URL       string // http or https, of a .gguf file
}

var (
	repoPart     = regexp.MustCompile(`^[A-Za-z0-9_]+([.-]*[A-Za-z0-9_]+)*$`)
	quantPart    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	revisionPart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]*$`)
)

const refForms = "write hf:ORG/REPO, hf:ORG/REPO:Q4_K_M, or the URL of a .gguf file"

// IsRef reports whether a text is meant as a reference and not as the path of a file.
func IsRef(text string) bool {
	return strings.HasPrefix(text, "hf:") || strings.HasPrefix(text, "https://") || strings.HasPrefix(text, "http://")
}

// ParseRef parses hf:ORG/REPO[:QUANT][@REVISION], hf:ORG/REPO/FILE.gguf[@REVISION], or a URL.
func ParseRef(text string) (Ref, error) {
	rest, isRepo := strings.CutPrefix(text, "hf:")
	switch {
	case isRepo:
		return parseRepo(text, strings.TrimPrefix(rest, "//"))
	case IsRef(text):
		return parseURL(text)
	case text == "":
		return Ref{}, errors.New("the reference is empty: " + refForms)
	}
	return Ref{}, fmt.Errorf("%q is not a reference to a model: %s", text, refForms)
}

func parseRepo(text, rest string) (Ref, error) {
	name, revision, pinned := strings.Cut(rest, "@")
	name, quant, quantised := strings.Cut(name, ":")
	parts := strings.SplitN(name, "/", 3)
	r := Ref{Org: parts[0], Quant: strings.ToUpper(quant), Revision: revision}
	if len(parts) > 1 {
		r.Repo = parts[1]
	}
	if len(parts) > 2 {
		r.File = parts[2]
	}
	switch {
	case !repoPart.MatchString(r.Org) || !repoPart.MatchString(r.Repo):
		return Ref{}, fmt.Errorf("%q does not name a repository: %s", text, refForms)
	case quantised && !quantPart.MatchString(quant):
		return Ref{}, fmt.Errorf("%q does not name a quantisation after the colon (example: hf:%s/%s:Q4_K_M)", text, r.Org, r.Repo)
	case pinned && (!revisionPart.MatchString(revision) || strings.Contains(revision, "..")):
		return Ref{}, fmt.Errorf("%q does not name a revision after the @ (example: hf:%s/%s@main)", text, r.Org, r.Repo)
	case len(parts) > 2 && (!isGGUF(r.File) || !safePath(r.File)):
		return Ref{}, fmt.Errorf("%q does not name a .gguf file of the repository: %s", text, refForms)
	case r.File != "" && quantised:
		return Ref{}, fmt.Errorf("%q names both a file and a quantisation: leave one of them out", text)
	}
	return r, nil
}

// publicHosts are the names of the public hub, whose pages are named like repositories.
var publicHosts = map[string]bool{"huggingface.co": true, "www.huggingface.co": true, "hf.co": true}

func parseURL(text string) (Ref, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return Ref{}, fmt.Errorf("%q is not a URL (example: https://host/model.gguf)", text)
	case u.User != nil:
		return Ref{}, fmt.Errorf("the URL of %s has a user name or password: leave them out", u.Host)
	}
	if parts := strings.Split(strings.Trim(u.Path, "/"), "/"); publicHosts[u.Hostname()] && len(parts) == 2 {
		return parseRepo(text, strings.Join(parts, "/"))
	}
	if name := path.Base(u.Path); !isGGUF(name) || !safePath(name) {
		return Ref{}, fmt.Errorf("%q does not end in the name of a .gguf file: %s", text, refForms)
	}
	u.Fragment = ""
	return Ref{URL: u.String()}, nil
}

// String returns the text from which ParseRef makes the same reference.
func (r Ref) String() string {
	if r.URL != "" {
		return r.URL
	}
	text := "hf:" + r.Org + "/" + r.Repo
	if r.File != "" {
		text += "/" + r.File
	}
	if r.Quant != "" {
		text += ":" + r.Quant
	}
	if r.Revision != "" {
		text += "@" + r.Revision
	}
	return text
}

// folder returns where a reference's files are, below the folder of all models.
func (r Ref) folder() string {
	switch {
	case r.URL != "":
		return folderOfURL(r.URL)
	case r.Revision != "":
		return r.Org + "/" + r.Repo + "@" + url.PathEscape(r.Revision) // which may have a slash
	}
	return r.Org + "/" + r.Repo
}

// folderOfURL returns HOST-HASH. The hash is of the host and the path's folder: two files of
// one name are kept apart, and the parts of a split model are together. The query does not
// count, since a signature in it changes.
func folderOfURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	folder := sha256.Sum256([]byte(strings.ToLower(u.Host) + path.Dir(u.Path)))
	if host := strings.ToLower(u.Hostname()); safePath(host) && !strings.Contains(host, "/") {
		return fmt.Sprintf("%s-%x", host, folder[:4])
	}
	return fmt.Sprintf("%x", folder[:4])
}

func isGGUF(name string) bool { return strings.EqualFold(path.Ext(name), ".gguf") }

// safePath reports whether a path of a repository stays within its folder, is not hidden, and
// has no characters that a terminal or a log would interpret.
func safePath(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || strings.HasPrefix(part, ".") || len(part) > 200 {
			return false
		}
	}
	return !strings.ContainsFunc(p, func(r rune) bool { return r == '\\' || !unicode.IsPrint(r) })
}
