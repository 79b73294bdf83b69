package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestUpstreamIsItself: llmsup detects an upstream that leads back to itself through a
// proxy, at the start and at a reload, and sends it no call and no key.
func TestUpstreamIsItself(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var requests []string
	var target *url.URL
	known := make(chan struct{})
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		requests = append(requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")))
		mu.Unlock()
		select {
		case <-known:
			(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(target) }}).ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(proxy.Close)
	c := newFakeCloud(t)
	key, entry := newKeyEntry(t, "full", "")
	text := fmt.Sprintf(`
upstreams:
  openrouter: {base_url: %q, api_key_env: TEST_OPENROUTER_KEY}
  round: {base_url: "%s/v1", api_key_env: TEST_ROUND_KEY}
routes:
  alone: {primary: round}
  saved: {primary: round, fallback: openrouter}
keys:
%s`, c.URL, proxy.URL, entry)
	file := newTestConfig(t, text)
	in := launch(t, append(c.env(), "TEST_ROUND_KEY="+key), "--config", file.path)
	var err error
	if target, err = url.Parse(in.url); err != nil {
		t.Fatal(err)
	}
	close(known)
	awaitUpstream := func(name string) control.Upstream {
		var found control.Upstream
		in.awaitStatus("itself: "+name, func(s control.Status) bool {
			for _, u := range s.Upstreams {
				if u.Name == name {
					found = u
				}
			}
			return found.Reason != ""
		})
		return found
	}
	if u := awaitUpstream("round"); u.Healthy || u.Reason != "is this llmsup itself; change its base_url in llmsup.yaml" {
		t.Errorf("%+v", u)
	}
	in.awaitLog(`"level":"error","upstream":"round"`)
	ask := func(model string) reply {
		return in.request("POST", "/v1/chat/completions", `{"model":"`+model+`"}`, "X-Api-Key", key)
	}
	if r := ask("alone"); r.status != 503 || gjson.Get(r.body, "error.code").Str != "failed" || r.header.Get("Retry-After") != "60" {
		t.Errorf("%+v", r)
	}
	if r := ask("saved"); r.status != 200 || r.backend() != "openrouter" || r.reason() != "failed" {
		t.Errorf("%+v", r)
	}
	if code, out := in.run("route", "alone"); code != 1 || !strings.Contains(out, "is this llmsup itself") {
		t.Errorf("exit %d: %s", code, out)
	}

	file.write(strings.Replace(text, "routes:", "  straight: {base_url: \""+in.url+"\", api_key_env: TEST_ROUND_KEY}\nroutes:", 1))
	if code, out := in.reload(); code != 0 || !strings.Contains(out, "upstream straight: added") {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	awaitUpstream("straight")
	in.awaitLog("cannot fetch or store the upstream's prices") // of the cloud: the lists are begun after the search
	mu.Lock()
	defer mu.Unlock()
	for _, request := range requests {
		if request != "GET /v1/models" {
			t.Errorf("it was sent %s", request)
		}
	}
}
