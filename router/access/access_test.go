package access

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/llmsup/llmsup/router/wire"
)

const goodKey = "llmsup-good"

// request returns a request with headers: name, value, name, value, ...
func request(method string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, "/v1/models", http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	p := Policy{Keys: []Key{{Name: "other", SHA256: sha256.Sum256([]byte("llmsup-other"))}, {Name: "good", SHA256: sha256.Sum256([]byte(goodKey))}}}
	for name, tc := range map[string]struct {
		headers []string
		want    string // the key's name; "" = rejected
	}{
		"no key":              {nil, ""},
		"wrong":               {[]string{"Authorization", "Bearer " + goodKey + "x"}, ""},
		"its hash":            {[]string{"Authorization", fmt.Sprintf("Bearer %x", sha256.Sum256([]byte(goodKey)))}, ""},
		"empty":               {[]string{"Authorization", "Bearer "}, ""},
		"another scheme":      {[]string{"Authorization", "Basic " + goodKey}, ""},
		"without a scheme":    {[]string{"Authorization", goodKey}, ""},
		"another header":      {[]string{"Api-Key", goodKey}, ""},
		"as OpenAI's clients": {[]string{"Authorization", "Bearer " + goodKey}, "good"},
		"in lower case":       {[]string{"Authorization", "bearer  " + goodKey + " "}, "good"},
		"as Anthropic's":      {[]string{"X-Api-Key", goodKey}, "good"},
		"behind a proxy":      {[]string{"Authorization", "Basic x", "X-Api-Key", goodKey}, "good"},
		"the other key":       {[]string{"X-Api-Key", "llmsup-other"}, "other"},
	} {
		t.Run(name, func(t *testing.T) {
			key, e := p.Authenticate(request("GET", tc.headers...))
			if got := key.KeyName(); got != tc.want {
				t.Errorf("the key is %q, want %q", got, tc.want)
			}
			if rejected := e.Status == http.StatusUnauthorized && e.Code == wire.CodeBadKey && e.Message != ""; rejected != (tc.want == "") {
				t.Errorf("error %+v", e)
			}
		})
	}
}

// TestAwaitsKeys: without the keys that it waits for, a policy accepts no request.
func TestAwaitsKeys(t *testing.T) {
	p := Policy{AwaitsKeys: true}
	for _, r := range []*http.Request{request("GET"), request("GET", "X-Api-Key", goodKey)} {
		if key, e := p.Authenticate(r); key != nil || e.Status != http.StatusServiceUnavailable || e.Code != wire.CodeAwaitsKeys || e.RetryAfter == 0 {
			t.Errorf("%v, %+v", key, e)
		}
	}
	if !p.NeedsKey() || (&Policy{}).NeedsKey() {
		t.Error("a policy without keys needs one only if it awaits them")
	}
}

func TestAllows(t *testing.T) {
	for name, tc := range map[string]struct {
		key   *Key
		model string
		want  bool
	}{
		"no key":           {nil, "gpt-4o", true},
		"all routes":       {&Key{}, "gpt-4o", true},
		"a route":          {&Key{Routes: []string{"gpt-4o"}}, "gpt-4o", true},
		"another route":    {&Key{Routes: []string{"gpt-4o"}}, "gpt-4o-mini", false},
		"a pattern":        {&Key{Routes: []string{"x", "local/*"}}, "local/qwen", true},
		"no route":         {&Key{Routes: []string{}}, "gpt-4o", false},
		"a pattern's name": {&Key{Routes: []string{"local/*"}}, "local", false},
	} {
		if got := tc.key.Allows(tc.model); got != tc.want {
			t.Errorf("%s: %s is allowed: %t", name, tc.model, got)
		}
	}
}

func TestCallerKey(t *testing.T) {
	key := &Key{Name: "good"}
	if got := CallerKey(WithKey(t.Context(), key)); got != key {
		t.Errorf("the key is %+v", got)
	}
	if got := CallerKey(t.Context()); got != nil || got.KeyName() != "" {
		t.Errorf("without a key it is %+v", got)
	}
}

func TestVerifyOrigin(t *testing.T) {
	const page = "https://app.example:8443"
	for name, tc := range map[string]struct {
		allowed []string
		origins []string
		want    http.Header // nil = rejected
	}{
		"no web page":         {nil, nil, http.Header{}},
		"no page is allowed":  {nil, []string{page}, nil},
		"the page":            {[]string{page}, []string{page}, http.Header{"Vary": {"Origin"}, "Access-Control-Allow-Origin": {page}, "Access-Control-Expose-Headers": {"X-A"}}},
		"no page, some may":   {[]string{page}, nil, http.Header{"Vary": {"Origin"}}},
		"all pages":           {[]string{"*"}, []string{"null"}, http.Header{"Vary": {"Origin"}, "Access-Control-Allow-Origin": {"null"}, "Access-Control-Expose-Headers": {"X-A"}}},
		"another scheme":      {[]string{page}, []string{"http://app.example:8443"}, nil},
		"another port":        {[]string{page}, []string{"https://app.example"}, nil},
		"another page":        {[]string{page}, []string{"https://evil.example"}, nil},
		"a sandbox":           {[]string{page}, []string{"null"}, nil},
		"a pattern":           {[]string{"https://*.example:*"}, []string{page}, http.Header{"Vary": {"Origin"}, "Access-Control-Allow-Origin": {page}, "Access-Control-Expose-Headers": {"X-A"}}},
		"another pattern":     {[]string{"https://*.app.example:*"}, []string{page}, nil},
		"a second, forbidden": {[]string{page}, []string{page, "https://evil.example"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := request("POST")
			for _, origin := range tc.origins {
				r.Header.Add("Origin", origin)
			}
			w := httptest.NewRecorder()
			e := (&Policy{Origins: tc.allowed}).VerifyOrigin(w, r, "X-A")
			if rejected := e.Status == http.StatusForbidden && e.Code == wire.CodeOrigin; rejected != (tc.want == nil) {
				t.Errorf("error %+v", e)
			}
			if tc.want == nil {
				if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("a page that is rejected may read the answer: %q", got)
				}
			} else if got := w.Header(); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("headers %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPreflight(t *testing.T) {
	asked := []string{"Origin", "https://app.example", "Access-Control-Request-Method", "POST"}
	for name, tc := range map[string]struct {
		request *http.Request
		want    bool
	}{
		"a preflight":   {request("OPTIONS", asked...), true},
		"another verb":  {request("POST", asked...), false},
		"not of a page": {request("OPTIONS", asked[2:]...), false},
		"bare OPTIONS":  {request("OPTIONS", asked[:2]...), false},
	} {
		if got := IsPreflight(tc.request); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	w := httptest.NewRecorder()
	AnswerPreflight(w, request("OPTIONS", append(asked, "Access-Control-Request-Headers", "authorization,x-stainless-os", "Access-Control-Request-Private-Network", "true")...))
	if h := w.Header(); w.Code != http.StatusNoContent || h.Get("Access-Control-Allow-Headers") != "authorization,x-stainless-os" || h.Get("Access-Control-Allow-Methods") != "GET, POST" || h.Get("Access-Control-Allow-Private-Network") != "true" {
		t.Errorf("%d %v", w.Code, h)
	}
}

func TestVerifyHost(t *testing.T) {
	loopback := Policy{CheckHost: true, Hosts: []string{"llm.corp.example"}}
	network := Policy{CheckHost: true, AnyIP: true}
	for host, want := range map[string]struct{ loopback, network bool }{
		"": {true, true}, "localhost": {true, true}, "LocalHost:8000": {true, true}, "127.0.0.1": {true, true}, "127.0.0.1:1": {true, true},
		"[::1]:8000": {true, true}, "[::1]": {true, true}, "host.docker.internal:8000": {true, true}, "host.containers.internal": {true, true},
		"llm.corp.example:8000": {true, false}, "LLM.corp.example.": {true, false},
		"10.0.0.7:8000": {false, true}, "[fe80::1]:8000": {false, true},
		"evil.example": {false, false}, "evil.example:8000": {false, false}, "localhost.evil.example": {false, false},
		"127.0.0.1.evil.example": {false, false}, "2130706433": {false, false},
	} {
		r := request("GET")
		r.Host = host
		for name, tc := range map[string]struct {
			policy Policy
			want   bool
		}{"loopback": {loopback, want.loopback}, "network": {network, want.network}, "unchecked": {Policy{}, true}} {
			e := tc.policy.VerifyHost(r)
			if accepted := e.Status == 0; accepted != tc.want || !accepted && (e.Status != http.StatusForbidden || e.Code != wire.CodeHost) {
				t.Errorf("%q, %s: %+v", host, name, e)
			}
		}
	}
}

func TestClone(t *testing.T) {
	p := Policy{Keys: []Key{{Name: "a"}}, Origins: []string{"*"}, Hosts: []string{"h"}, AnyIP: true}
	c := p.Clone()
	if !reflect.DeepEqual(*c, p) {
		t.Errorf("the copy is %+v", c)
	}
	if c.Keys[0].Name, c.Origins[0], c.Hosts[0] = "b", "x", "y"; p.Keys[0].Name != "a" || p.Origins[0] != "*" || p.Hosts[0] != "h" {
		t.Error("the copy shares memory")
	}
}
