package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/models/hub/hubtest"
)

// gguf returns the content of a file that begins as a GGUF file.
func gguf(size int) []byte {
	b := append([]byte("GGUF"), bytes.Repeat([]byte("0123456789"), size/10+1)...)
	return b[:size]
}

// files returns files with these paths, of increasing size.
func files(paths ...string) (all []hubtest.File) {
	for i, p := range paths {
		all = append(all, hubtest.File{Path: p, Content: gguf(1000 + i)})
	}
	return all
}

func client(h *hubtest.Hub, token string) *Client {
	return &Client{Endpoint: h.URL, Token: token, firstWait: time.Millisecond}
}

func parse(t *testing.T, text string) Ref {
	t.Helper()
	r, err := ParseRef(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// shown returns a listing in short: each model's name and files.
func shown(l Listing) (all []string) {
	for _, v := range l.Variants {
		text := v.Name() + ":"
		for _, f := range v.Files {
			text += " " + f.Path
		}
		all = append(all, text)
	}
	for _, f := range l.Projectors {
		all = append(all, "projector: "+f.Path)
	}
	return all
}

func TestList(t *testing.T) {
	for name, tc := range map[string]struct {
		files []string
		want  []string
	}{
		"quantisations in names": {
			[]string{"README.md", "m-Q2_K.gguf", "m.Q4_K_M.gguf", "m-UD-Q4_K_XL.gguf", "m-q8_0.gguf", "m-IQ4_XS.gguf", "m-BF16.gguf"},
			[]string{"Q2_K: m-Q2_K.gguf", "Q4_K_M: m.Q4_K_M.gguf", "UD-Q4_K_XL: m-UD-Q4_K_XL.gguf", "Q8_0: m-q8_0.gguf", "IQ4_XS: m-IQ4_XS.gguf", "BF16: m-BF16.gguf"},
		},
		"quantisations in folders": {
			[]string{"Q8_0/model-00001-of-00002.gguf", "Q8_0/model-00002-of-00002.gguf", "Q4_K_M.gguf"},
			[]string{"Q4_K_M: Q4_K_M.gguf", "Q8_0: Q8_0/model-00001-of-00002.gguf Q8_0/model-00002-of-00002.gguf"},
		},
		"a split model without its second part": {
			[]string{"a-Q8_0-00001-of-00003.gguf", "a-Q8_0-00003-of-00003.gguf", "a-Q4_0.gguf"},
			[]string{"Q4_0: a-Q4_0.gguf"},
		},
		"files that are no models": {
			[]string{"mmproj-F16.gguf", "imatrix.gguf", "mtp-Q8_0.gguf", "m-mmproj-BF16.gguf", "plain.gguf"},
			[]string{"plain.gguf: plain.gguf", "projector: mmproj-F16.gguf", "projector: m-mmproj-BF16.gguf"},
		},
		"names that cannot be stored": {
			[]string{"../up.gguf", ".hidden.gguf", "a/./b.gguf", "m-Q8_0.gguf"},
			[]string{"Q8_0: m-Q8_0.gguf"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: files(tc.files...)})
			h.PageSize = 2
			l, err := client(h, "").List(t.Context(), parse(t, "hf:a/b"))
			if err != nil || !slices.Equal(shown(l), tc.want) || l.Commit != h.Commit("a/b") {
				t.Errorf("%q, %v\nwant %q", shown(l), err, tc.want)
			}
			for _, r := range h.Requests() {
				if r.Host != h.HubHost() {
					t.Errorf("a request to another host: %+v", r)
				}
			}
		})
	}
}

// TestFind: which model a reference names.
func TestFind(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: files("m-Q4_K_M.gguf", "m-UD-Q3_K_M.gguf", "m-Q8_0.gguf", "n-Q8_0.gguf")},
		hubtest.Repo{Name: "a/one", Files: files("m-Q5_0.gguf", "mmproj-m.gguf")})
	commit := h.Commit("a/b")
	for ref, want := range map[string]string{
		"hf:a/b":                  "",
		"hf:a/one":                "m-Q5_0.gguf",
		"hf:a/b:q4_k_m":           "m-Q4_K_M.gguf",
		"hf:a/b:Q4_K_M@main":      "m-Q4_K_M.gguf",
		"hf:a/b:Q4_K_M@" + commit: "m-Q4_K_M.gguf",
		"hf:a/b:UD-Q3_K_M":        "m-UD-Q3_K_M.gguf",
		"hf:a/b:Q3_K_M":           "m-UD-Q3_K_M.gguf",
		"hf:a/b/n-Q8_0.gguf":      "n-Q8_0.gguf",
		"hf:a/b:Q8_0":             "error: a/b has several models of that quantisation Q8_0; name one of them: hf:a/b/m-Q8_0.gguf, hf:a/b/n-Q8_0.gguf",
		"hf:a/b:Q6_K":             "error: a/b has no quantisation Q6_K; it has Q4_K_M, UD-Q3_K_M, Q8_0",
		"hf:a/one:Q4_K_M":         "error: a/one has no quantisation Q4_K_M; it has Q5_0",
		"hf:a/b/x.gguf":           "error: a/b has no file x.gguf; it has Q4_K_M, UD-Q3_K_M, Q8_0",
		"hf:a/b:Q4_K_M@nonsense":  `error: a/b has no revision "nonsense": leave out @nonsense, or name a branch, tag or commit`,
		h.URL + "/a/b/resolve/main/m-Q4_K_M.gguf": "m-Q4_K_M.gguf",
		h.URL + "/a/b/blob/main/m-Q4_K_M.gguf":    "m-Q4_K_M.gguf",
	} {
		got := ""
		l, err := client(h, "").List(t.Context(), parse(t, ref))
		if err == nil {
			var v Variant
			var ok bool
			if v, ok, err = l.Find(); ok && err == nil {
				got = v.Files[0].Path
			}
		}
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("%s: %s\nwant %s", ref, got, want)
		}
	}
}

// TestListPages: the pages of a list end, whatever a hub answers.
func TestListPages(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: files("m-Q8_0.gguf")})
	requests, padding, next := 0, 0, ""
	h.SetIntercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/tree/") {
			return false
		}
		requests++
		w.Header().Set("Link", "<"+h.URL+r.URL.Path+"?"+strings.ReplaceAll(next, "N", fmt.Sprint(requests))+`>; rel="next"`)
		_, _ = w.Write([]byte("[" + strings.Repeat(" ", padding) + "]"))
		return true
	})
	for name, tc := range map[string]struct {
		next     string // the query of each page's link; N is the number of the page
		padding  int    // bytes of each page
		err      string
		requests int
	}{
		"itself":         {"recursive=true", 0, h.URL + " repeats a page of the list of files of a/b: check HF_ENDPOINT", 1},
		"one after that": {"cursor=x", 0, h.URL + " repeats a page of the list of files of a/b: check HF_ENDPOINT", 2},
		"without end":    {"cursor=N", 0, "a/b has too many files to list", maxPages},
		"large pages":    {"cursor=N", 12 << 20, "a/b has too many files to list", 3},
	} {
		requests, next, padding = 0, tc.next, tc.padding
		_, err := client(h, "").List(t.Context(), parse(t, "hf:a/b"))
		if err == nil || err.Error() != tc.err || IsTemporary(err) || requests != tc.requests {
			t.Errorf("%s: %v after %d requests", name, err, requests)
		}
	}
}

// TestErrors: what a user reads when the hub refuses, or is no  No message has the token.
func TestErrors(t *testing.T) {
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Files: files("m-Q8_0.gguf")}, hubtest.Repo{Name: "a/gated", Gated: true, Files: files("m-Q8_0.gguf")},
		hubtest.Repo{Name: "a/private", Private: true, Files: files("m-Q8_0.gguf")}, hubtest.Repo{Name: "a/empty", Files: files("README.md")})
	status := 0
	h.SetIntercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if status != 0 {
			w.WriteHeader(status)
		}
		return status != 0
	})
	host := h.HubHost()
	for name, tc := range map[string]struct {
		ref, token, endpoint string
		offline              bool
		status               int
		want                 string
		temporary            bool
	}{
		"missing":               {ref: "hf:a/c", want: "a/c does not exist at " + host + ", or is private: check the name; for a private repository set HF_TOKEN"},
		"missing, with a token": {ref: "hf:a/c", token: hubtest.Token, want: "a/c does not exist at " + host + ", or is private and your token has no access: check the name and the token"},
		"private":               {ref: "hf:a/private", want: "a/private does not exist at " + host + ", or is private: check the name; for a private repository set HF_TOKEN"},
		"private, another's":    {ref: "hf:a/private", token: hubtest.StrangerToken, want: "a/private does not exist at " + host + ", or is private and your token has no access: check the name and the token"},
		"private, one's own":    {ref: "hf:a/private", token: hubtest.Token},
		"gated":                 {ref: "hf:a/gated", want: "a/gated is gated: accept its licence at " + h.URL + "/a/gated, then set HF_TOKEN to a token of that account (" + h.URL + "/settings/tokens)"},
		"gated, not accepted":   {ref: "hf:a/gated", token: hubtest.StrangerToken, want: "a/gated is gated, and the account of your token has no access yet: accept the licence at " + h.URL + "/a/gated"},
		"gated, accepted":       {ref: "hf:a/gated", token: hubtest.Token},
		"a token that expired":  {ref: "hf:a/b", token: "hf_expired", want: host + " does not accept your token: renew it (" + h.URL + "/settings/tokens), or unset HF_TOKEN for public models"},
		"no GGUF":               {ref: "hf:a/empty", want: "a/empty has no GGUF files: search the hub for the model's name with GGUF"},
		"offline":               {ref: "hf:a/b", offline: true, want: "HF_HUB_OFFLINE is set, so nothing is downloaded: unset it, or name a file on disk"},
		"no network":            {ref: "hf:a/b", endpoint: "http://127.0.0.1:1", want: "cannot reach 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: check the network, or HF_ENDPOINT", temporary: true},
		"no network, a URL":     {ref: "http://127.0.0.1:1/x.gguf", want: "cannot reach 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused: check the network", temporary: true},
		"no hub":                {ref: "hf:a/b", status: 200, want: h.URL + " does not answer as a hub does: check HF_ENDPOINT"},
		"the hub is down":       {ref: "hf:a/b", status: 503, want: host + " failed with 503: try again later", temporary: true},
		"the hub's rate limit":  {ref: "hf:a/b", status: 429, want: host + " limits how often it is asked (429): try again in some minutes", temporary: true},
		"a URL without a file":  {ref: h.URL + "/a/b/resolve/main/x.gguf", want: h.URL + "/a/b/resolve/main/x.gguf"},
		"a URL of a web page":   {ref: h.URL + "/a/b/page/main/x.gguf?secret=1", want: h.URL + "/a/b/page/main/x.gguf is not a GGUF file, whatever its name says: check the reference"},
		"a URL of a part":       {ref: h.URL + "/a/b/resolve/main/m-00002-of-00003.gguf", want: "m-00002-of-00003.gguf is part 2 of 3: name the first part"},
	} {
		t.Run(name, func(t *testing.T) {
			status = tc.status
			c := client(h, tc.token)
			c.Offline = tc.offline
			if tc.endpoint != "" {
				c.Endpoint = tc.endpoint
			}
			l, err := c.List(t.Context(), parse(t, tc.ref))
			if err == nil { // a gated repository can be listed
				_, err = c.Header(t.Context(), l.Variants[0].Files[0]).ReadAt(make([]byte, 4), 0)
			}
			if fmt.Sprint(err) != tc.want && (tc.want != "" || err != nil) && !(len(tc.want) > 0 && err != nil && strings.HasPrefix(err.Error(), tc.want)) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
			if strings.HasPrefix(tc.ref, "http") && strings.Contains(fmt.Sprint(err), "HF_ENDPOINT") {
				t.Errorf("HF_ENDPOINT does not matter for a URL: %v", err)
			}
			if IsTemporary(err) != tc.temporary {
				t.Errorf("IsTemporary is %v of %v", !tc.temporary, err)
			}
			if err != nil && (tc.token != "" && strings.Contains(err.Error(), tc.token) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
}

// TestHeader: exactly the bytes that are asked for are requested, and the token stays with the
func TestHeader(t *testing.T) {
	content := gguf(5000)
	h := hubtest.Start(t, hubtest.Repo{Name: "a/b", Private: true, Files: []hubtest.File{{Path: "m-Q8_0.gguf", Content: content, Xet: true}}})
	c := client(h, hubtest.Token)
	v, err := c.Variants(t.Context(), parse(t, "hf:a/b"))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Header(t.Context(), v[0].Files[0])
	for _, tc := range []struct {
		at   int64
		size int
		want []byte
		err  error
	}{{0, 4, content[:4], nil}, {1000, 10, content[1000:1010], nil}, {4990, 20, content[4990:], io.EOF}, {5000, 1, nil, io.EOF}} {
		before := h.Served()
		p := make([]byte, tc.size)
		n, err := r.ReadAt(p, tc.at)
		if !errors.Is(err, tc.err) || !bytes.Equal(p[:n], tc.want) || h.Served()-before != int64(n) {
			t.Errorf("ReadAt %d: %q, %v, %d bytes served", tc.at, p[:n], err, h.Served()-before)
		}
	}
	checkTokens(t, h)
}

// checkTokens fails if the token went to another host than the hub, or was not sent there.
func checkTokens(t *testing.T, h *hubtest.Hub) {
	t.Helper()
	hosts := map[string]int{}
	for _, r := range h.Requests() {
		hosts[r.Host]++
		if want := r.Host == h.HubHost(); (r.Authorization == "Bearer "+hubtest.Token) != want || !want && r.Authorization != "" {
			t.Errorf("%+v", r)
		}
	}
	if hosts[h.HubHost()] == 0 || hosts[h.StorageHost()] == 0 {
		t.Errorf("requests to %v", hosts)
	}
}

// TestHostileSizes: sizes whose sum overflows are not taken, and neither are names with control
// characters or a number of parts that no model has.
func TestHostileSizes(t *testing.T) {
	c := &Client{}
	for name, e := range map[string]treeEntry{
		"large":         {Type: "file", Path: "x.gguf", Size: 1<<63 - 1},
		"large in LFS":  {Type: "file", Path: "x.gguf", LFS: &lfsEntry{OID: strings.Repeat("A", 64), Size: 1<<63 - 1}},
		"CSI":           {Type: "file", Path: "x\u009b31m.gguf", Size: 5},
		"right to left": {Type: "file", Path: "x\u202e.gguf", Size: 5},
	} {
		if f, ok := c.file(Ref{Org: "o", Repo: "r"}, "main", e); ok {
			t.Errorf("%s: %+v", name, f)
		}
	}
	upper := treeEntry{Type: "file", Path: "x.gguf", LFS: &lfsEntry{OID: strings.Repeat("A", 64), Size: 5}}
	if f, ok := c.file(Ref{Org: "o", Repo: "r"}, "main", upper); !ok || f.SHA256 != strings.Repeat("a", 64) {
		t.Errorf("%+v", f)
	}
	if _, err := c.List(t.Context(), Ref{URL: "http://127.0.0.1:1/x-00001-of-00000.gguf"}); err == nil || !strings.Contains(err.Error(), "a model has 1 to") {
		t.Error(err)
	}
	one, other := File{Path: "x.gguf", Size: 5, URL: "http://h/a"}, File{Path: "x.gguf", Size: 5, URL: "http://h/b"}
	a, _ := one.identity()
	if b, _ := other.identity(); a == b {
		t.Error("two commits are one file")
	}
}
