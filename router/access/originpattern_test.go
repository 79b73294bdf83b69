package access

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestParseOrigin(t *testing.T) {
	for text, want := range map[string]string{ // "" = not an entry
		"*": "*", "null": "null", "https://app.example.com": "https://app.example.com",
		"HTTPS://App.Example.COM:443": "https://app.example.com", "http://b:80": "http://b", "http://b:443": "http://b:443",
		"http://localhost:*": "http://localhost:*", "http://localhost:3000": "http://localhost:3000", "https://*.Example.com": "https://*.example.com",
		"https://*.example.com:443": "https://*.example.com", "https://*.example.com:*": "https://*.example.com:*",
		"http://[0:0::1]:3000": "http://[::1]:3000", "http://[::1]:*": "http://[::1]:*", "http://127.0.0.1:*": "http://127.0.0.1:*",
		"app://obsidian.md": "app://obsidian.md", "chrome-extension://abcdefgh": "chrome-extension://abcdefgh",
		"": "", "Null": "", "app.example.com": "", "https://": "", "://a": "", "//a": "", "https:a": "", "1a://b": "",
		"https://a/": "", "https://a/x": "", "https://a?x": "", "https://a#x": "", "https://u@a": "", "https://u:p@a": "",
		"https://*": "", "https://*:*": "", "*://a": "", "https://a.*": "", "https://a.*.b": "", "https://*.*.b": "", "https://*a": "", "https://*.": "",
		"https://.a": "", "https://a.": "", "https://a..b": "", "https://a b": "", "https://b\u00fccher.example": "", "https://a:": "", "https://a:0": "", "https://a:65536": "",
		"https://a:08": "", "https://a:8x": "", "https://a:*1": "", "https://[::1": "", "https://::1": "", "https://[::1%eth0]": "", "https://[127.0.0.1]": "", "https://*.[::1]": "",
	} {
		got, ok := ParseOrigin(text)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t; want %q", text, got, ok, want)
		}
		if again, ok := ParseOrigin(got); want != "" && (!ok || again != got) {
			t.Errorf("%q is parsed as %q, which is parsed as %q", text, got, again)
		}
	}
}

func TestMatchOrigin(t *testing.T) {
	for entry, tc := range map[string]struct{ yes, no string }{ // separated by blanks
		"*":                       {"null https://a http://evil.example:1", ""},
		"null":                    {"null", "https://null NULL"},
		"https://app.example.com": {"https://app.example.com", "http://app.example.com https://app.example.com:8443 https://x.app.example.com https://APP.example.com https://app.example.com. https://app.example.com/ null"},
		"http://localhost:*": {
			"http://localhost http://localhost:1 http://localhost:3000 http://localhost:65535",
			"https://localhost:3000 http://localhost. http://localhost.:80 http://localhost.evil.com:3000 http://evil.com/localhost:3000 http://localhost:3000@evil.com http://localhost:x http://localhost:0 http://localhost:01 http://localhost:65536 http://localhost: http://localhost:3000/ http://localhost:3000.evil.com http://xlocalhost:1 http://LOCALHOST:3000 http://evil.com:3000 null",
		},
		"https://*.example.com": {
			"https://a.example.com https://a.b.example.com https://xn--bcher-kva.example.com",
			"https://example.com https://.example.com https://evil.com/.example.com https://evil.com?.example.com https://evil.com#.example.com https://example.com.evil https://a.example.com.evil.com https://evilexample.com https://u@a.example.com https://u:p@a.example.com https://evil.com:1.example.com https://a.example.com:8443 https://a.example.com:443 https://a.example.com. https://A.example.com HTTPS://a.example.com http://a.example.com https://a..example.com https://[::1].example.com https://evil.com%2f.example.com https://evil.com\\.example.com https://*.example.com:1 null",
		},
		"https://*.example.com:*": {"https://a.example.com https://a.example.com:8443", "https://example.com:8443 https://a.example.com:8443:1 https://a.example.com:"},
		"http://[::1]:*":          {"http://[::1] http://[::1]:3000", "http://[::1]:x http://::1:3000 http://[::2]:3000 http://[::1]3000 http://[::1]]:3000"},
	} {
		for origin := range strings.FieldsSeq(tc.yes) {
			if !matchOrigin(entry, origin) {
				t.Errorf("%s does not allow %s", entry, origin)
			}
		}
		for _, origin := range append(strings.Fields(tc.no), "") {
			if origin+tc.no != "" && matchOrigin(entry, origin) {
				t.Errorf("%s allows %s", entry, origin)
			}
		}
	}
}

// FuzzMatchOrigin: an Origin that matches a pattern is, for net/url, one of the scheme, the
// host and the port that the pattern has.
func FuzzMatchOrigin(f *testing.F) {
	for _, entry := range []string{"https://*.example.com", "http://localhost:*", "http://[::1]:*", "https://*.example.com:*", "null", "https://a:1"} {
		for _, origin := range []string{"https://a.example.com", "http://localhost:3000", "http://[::1]:1", "https://evil.com/.example.com", "null", "https://u@a:1"} {
			f.Add(entry, origin)
		}
	}
	f.Fuzz(func(t *testing.T, text, origin string) {
		entry, ok := ParseOrigin(text)
		if !ok || entry == anyOrigin || entry == origin || !matchOrigin(entry, origin) {
			return
		}
		u, err := url.Parse(origin)
		if err != nil || u.User != nil || u.Path+u.RawQuery+u.Fragment != "" || u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin {
			t.Fatalf("%q matches %q, and is not an origin: %v", origin, entry, err)
		}
		pattern := strings.TrimSuffix(entry, anyPort)
		scheme, host, _ := strings.Cut(pattern, "://")
		if u.Scheme != scheme || !strings.HasSuffix(entry, anyPort) && u.Port() != "" && !strings.HasSuffix(pattern, ":"+u.Port()) {
			t.Fatalf("%q matches %q", origin, entry)
		}
		domain, wild := strings.CutPrefix(host, "*.")
		domain, _ = splitPort(domain)
		if wild && !strings.HasSuffix(u.Hostname(), "."+domain) || !wild && u.Hostname() != strings.Trim(domain, "[]") {
			t.Fatalf("%q, with the host %q, matches %q", origin, u.Hostname(), entry)
		}
		if _, err := netip.ParseAddr(u.Hostname()); err == nil && wild && strings.Contains(u.Hostname(), ":") {
			t.Fatalf("an address matches %q", entry)
		}
	})
}
