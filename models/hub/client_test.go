package hub

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFromEnvironment(t *testing.T) {
	home := t.TempDir()
	token := func(path, content string) string {
		path = filepath.Join(home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token("cache/huggingface/token", "hf_cache\n")
	token("hub/token", "hf_home")
	path := token("elsewhere", " hf_path\r\n")
	for name, tc := range map[string]struct {
		env  map[string]string
		want *Client
		err  string
	}{
		"nothing":            {env: map[string]string{"XDG_CACHE_HOME": home}, want: &Client{Endpoint: DefaultEndpoint}},
		"the cache's token":  {want: &Client{Endpoint: DefaultEndpoint, Token: "hf_cache"}},
		"HF_HOME":            {env: map[string]string{"HF_HOME": home + "/hub"}, want: &Client{Endpoint: DefaultEndpoint, Token: "hf_home"}},
		"HF_TOKEN_PATH":      {env: map[string]string{"HF_HOME": home + "/hub", "HF_TOKEN_PATH": path}, want: &Client{Endpoint: DefaultEndpoint, Token: "hf_path"}},
		"HF_TOKEN":           {env: map[string]string{"HF_TOKEN_PATH": path, "HF_TOKEN": "hf_env"}, want: &Client{Endpoint: DefaultEndpoint, Token: "hf_env"}},
		"HF_ENDPOINT":        {env: map[string]string{"HF_ENDPOINT": "https://mirror:8443/hf/", "HF_TOKEN": "t"}, want: &Client{Endpoint: "https://mirror:8443/hf", Token: "t"}},
		"HF_HUB_OFFLINE":     {env: map[string]string{"HF_HUB_OFFLINE": "yes", "HF_TOKEN": "t"}, want: &Client{Endpoint: DefaultEndpoint, Token: "t", Offline: true}},
		"online":             {env: map[string]string{"HF_HUB_OFFLINE": "0", "HF_TOKEN": "t"}, want: &Client{Endpoint: DefaultEndpoint, Token: "t"}},
		"a host as endpoint": {env: map[string]string{"HF_ENDPOINT": "mirror:8443"}, err: "HF_ENDPOINT is not the URL of a hub"},
		"a password":         {env: map[string]string{"HF_ENDPOINT": "https://a:secret@b"}, err: "HF_ENDPOINT is not the URL of a hub"},
		"two lines":          {env: map[string]string{"HF_TOKEN": "secret\nX-Header: 1"}, err: "the token in HF_TOKEN has characters that no token has"},
		"a folder as file":   {env: map[string]string{"HF_TOKEN_PATH": home}, err: "is a directory; set HF_TOKEN, or remove the file"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_HUB_OFFLINE"} {
				t.Setenv(variable, tc.env[variable])
			}
			t.Setenv("XDG_CACHE_HOME", home+"/cache")
			if cache := tc.env["XDG_CACHE_HOME"]; cache != "" {
				t.Setenv("XDG_CACHE_HOME", cache)
			}
			got, err := FromEnvironment()
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || strings.Contains(err.Error(), "secret") {
					t.Error(err)
				}
				return
			}
			if err != nil || got.Endpoint != tc.want.Endpoint || got.Token != tc.want.Token || got.Offline != tc.want.Offline {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// TestMayHaveToken: to which addresses the token may be sent.
func TestMayHaveToken(t *testing.T) {
	for endpoint, addresses := range map[string]map[string]bool{
		"https://huggingface.co": {
			"https://huggingface.co/a": true, "https://HuggingFace.co/a": true, "http://huggingface.co/a": false, "https://huggingface.co:444/a": false,
			"https://cdn-lfs.huggingface.co/a": false, "https://huggingface.co.evil.example/a": false, "https://cas-bridge.xethub.hf.co/a": false,
		},
		"http://127.0.0.1:80/hub": {"http://127.0.0.1:80/a": true, "http://127.0.0.1:81/a": false, "http://localhost:80/a": false},
		"http://localhost:80":     {"http://localhost:80/a": true, "https://localhost:80/a": false},
		"http://mirror":           {"http://mirror/a": false},
	} {
		c := &Client{Endpoint: endpoint}
		c.setup()
		for address, want := range addresses {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			if c.mayHaveToken(u) != want {
				t.Errorf("the token of %s for %s: %v", endpoint, address, !want)
			}
		}
	}
}

func TestCheckRedirect(t *testing.T) {
	request := func(address string) *http.Request {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Referer", "https://hub/a?signature")
		return r
	}
	to := request("https://storage/b")
	if err := checkRedirect(to, []*http.Request{request("https://hub/a")}); err != nil || to.Header.Get("Referer") != "" {
		t.Errorf("%v, %v", err, to.Header)
	}
	if err := checkRedirect(request("http://storage/b"), []*http.Request{request("https://hub/a")}); !isPermanent(err) {
		t.Errorf("to http: %v", err)
	}
	if err := checkRedirect(to, make([]*http.Request, maxRedirects)); !isPermanent(err) {
		t.Errorf("in circles: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "7": 7 * time.Second, "Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "": -1, "-1": -1, "soon": -1, "99999999999": -1,
	} {
		got, ok := retryAfter(http.Header{"Retry-After": {value}}, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s, %v", value, got, ok)
		}
	}
}
