package hubtest

import (
	"crypto/sha1" //nolint:gosec // git's names of objects
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// serveHub answers what is asked of the hub: /api/models/ORG/REPO[/revision/REV|/tree/REV], and
// /ORG/REPO/resolve/REV/PATH.
func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	api := len(parts) >= 4 && parts[0] == "api" && parts[1] == "models"
	if api {
		parts = parts[2:]
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || len(parts) < 2 {
		http.Error(w, "Not Found", http.StatusNotFound)
		return
	}
	name := parts[0] + "/" + parts[1]
	repo, ok := h.authorize(w, r, name)
	if !ok {
		return
	}
	action, revision, file := "", "main", ""
	if len(parts) > 3 {
		action, revision, file = parts[2], parts[3], strings.Join(parts[4:], "/")
	}
	if revision != "main" && revision != repo.commit() {
		fail(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	switch {
	case api && (action == "" || action == "revision"):
		writeJSON(w, map[string]any{
			"_id": "621ffdc136468d709f17a5fd", "id": name, "modelId": name, "private": repo.Private, "gated": repo.gated(), "disabled": false,
			"sha": repo.commit(), "tags": []string{"gguf"}, "downloads": 1,
		})
	case api && action == "tree":
		h.serveTree(w, r, repo)
	case action == "resolve" || action == "blob" && strings.HasSuffix(file, ".html"):
		h.resolve(w, r, repo, file)
	default: // as the page about a file
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><html><title>"+name+"</title></html>")
	}
}

func (r *Repo) gated() any {
	if r.Gated {
		return "manual"
	}
	return false
}

// authorize returns a repository that the client may see. The hub answers 401 to a client without a token
// whether a repository is missing or private.
func (h *Hub) authorize(w http.ResponseWriter, r *http.Request, name string) (*Repo, bool) {
	h.mu.Lock()
	repo := h.repos[name]
	h.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case token != "" && token != Token && token != StrangerToken:
		fail(w, http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
		return nil, false
	case (repo == nil || repo.Private) && token == "":
		fail(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
		return nil, false
	case repo == nil || repo.Private && token != Token:
		fail(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
		return nil, false
	}
	return repo, true
}

// fail writes an error as the hub does.
func fail(w http.ResponseWriter, status int, code, message string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": message})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v)
}

// serveTree lists files and folders, on pages.
func (h *Hub) serveTree(w http.ResponseWriter, r *http.Request, repo *Repo) {
	var entries []map[string]any
	folders := map[string]bool{}
	for _, f := range repo.Files {
		if dir := path.Dir(f.Path); dir != "." && !folders[dir] {
			folders[dir] = true
			entries = append(entries, map[string]any{"type": "directory", "oid": gitHash([]byte(dir)), "size": 0, "path": dir})
		}
		entry := map[string]any{"type": "file", "oid": gitHash(f.Content), "size": len(f.Content), "path": f.Path}
		if !f.Plain {
			entry["lfs"] = map[string]any{"oid": f.SHA256, "size": len(f.Content), "pointerSize": 135}
		}
		if f.Xet {
			entry["xetHash"] = strings.Repeat("ab", 32)
		}
		entries = append(entries, entry)
	}
	start, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	end := len(entries)
	if h.PageSize > 0 && start+h.PageSize < end {
		end = start + h.PageSize
		query := r.URL.Query()
		query.Set("cursor", strconv.Itoa(end))
		// The real hub names itself in the link, also to a client of a mirror.
		next := url.URL{Scheme: "https", Host: "huggingface.co", Path: r.URL.Path, RawQuery: query.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	writeJSON(w, entries[min(start, end):end])
}

// gitHash returns the name that git has for a file.
func gitHash(content []byte) string {
	sum := sha1.New() //nolint:gosec // git's
	fmt.Fprintf(sum, "blob %d\x00", len(content))
	_, _ = sum.Write(content)
	return hex.EncodeToString(sum.Sum(nil))
}

// resolve redirects to the storage, or sends a file that is in git itself.
func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, repo *Repo, file string) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case repo.Gated && token == "":
		fail(w, http.StatusUnauthorized, "GatedRepo", fmt.Sprintf("Access to model %s is restricted. You must have access to it and be authenticated to access it. Please log in.", repo.Name))
		return
	case repo.Gated && token != Token:
		fail(w, http.StatusForbidden, "GatedRepo", fmt.Sprintf("Access to model %s is restricted and you are not in the authorized list. Visit %s/%s to ask for access.", repo.Name, h.URL, repo.Name))
		return
	}
	f := repo.find(file)
	w.Header().Set("X-Repo-Commit", repo.commit())
	if f == nil {
		fail(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	if f.Plain {
		w.Header().Set("ETag", `"`+gitHash(f.Content)+`"`)
		h.send(w, r, f)
		return
	}
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(f.Content)))
	w.Header().Set("X-Linked-Etag", `"`+f.SHA256+`"`)
	w.Header().Set("Accept-Ranges", "bytes")
	if f.Xet {
		hash := strings.Repeat("ab", 32)
		w.Header().Set("X-Xet-Hash", hash)
		w.Header().Set("Link", fmt.Sprintf(`<%s/api/models/%s/xet-read-token/%s>; rel="xet-auth", <%s>; rel="xet-reconstruction-info"`, h.URL, repo.Name, repo.commit(), h.storage+"/reconstructions/"+hash))
	}
	location := fmt.Sprintf("%s/repos/%s/%s?X-Amz-Expires=3600&X-Amz-Signature=%s&response-content-disposition=inline", h.storage, repo.Name, file, signature)
	http.Redirect(w, r, location, http.StatusFound)
}
