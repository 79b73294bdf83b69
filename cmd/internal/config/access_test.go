package config

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
)

func TestKeys(t *testing.T) {
	c := mustParse(t, `
keys:
  short: `+hashA+`
  long: &long {sha256: "`+hashB+`", routes: ["local/*", gpt-4o], free_only: true}
  merged: {<<: *long, sha256: `+strings.Repeat("01", 32)+`}
  scraper: {sha256: `+strings.Repeat("02", 32)+`, operator: true, routes: []}
`)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	long, merged := c.Keys["long"], c.Keys["merged"]
	if c.Keys["short"].Hash()[0] != 0xaa || long.Hash()[31] != 0xbb || !long.Free() || !slices.Equal(long.Routes, []string{"local/*", "gpt-4o"}) {
		t.Errorf("%+v", c.Keys)
	}
	if scraper := c.Keys["scraper"]; !scraper.Operator || scraper.Routes == nil || len(scraper.Routes) != 0 || long.Operator {
		t.Errorf("%+v", scraper)
	}
	if merged.Hash()[0] != 1 || !merged.Free() || len(merged.Routes) != 2 {
		t.Errorf("%+v", merged)
	}
}

func TestNewClientKey(t *testing.T) {
	for _, name := range []string{"crawler", "a.b-c_d", "on", "null", "123", "1e3", "yes", "0x1f"} {
		key, hash := NewClientKey()
		line := strconv.Quote(name) + ": " + hash
		c := mustParse(t, "keys:\n  "+line+"\n")
		if err := c.Validate(); err != nil || c.Keys[name].Hash() != sha256.Sum256([]byte(key)) {
			t.Errorf("%s: %v", line, err)
		}
		if again, _ := NewClientKey(); again == key || !strings.HasPrefix(key, "llmsup-") || len(key) != 33 || strings.Contains(line, key[7:]) {
			t.Errorf("%q, then %q", key, again)
		}
	}
	for _, name := range []string{"", "a b", "ü", "../x", "llmsup-AAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		if ValidClientName(name) {
			t.Errorf("%q is a name", name)
		}
	}
}

// TestAccessErrors checks the errors, and that they contain no key.
func TestAccessErrors(t *testing.T) {
	const secret = "llmsup-SECRETSECRETSECRETSECRETSE"
	for name, tc := range map[string]struct{ text, want string }{
		"a key for a hash":     {"keys:\n  tool: " + secret, `f.yaml:2: keys.tool.sha256: is not the SHA-256 of a key (64 hex digits); "llmsup key new tool" generates both`},
		"the same, long":       {"keys:\n  tool:\n    sha256: " + secret, "f.yaml:3: keys.tool.sha256: is not the SHA-256"},
		"a key for a name":     {"listen: 127.0.0.1:1\nkeys:\n  " + secret + ": " + hashA, "f.yaml:3: keys: a key's name has at most 100"},
		"a key for a field":    {"keys:\n  tool: {" + secret + ": x}", "f.yaml:2: unknown key (not repeated, it may be a key)"},
		"twice the same name":  {"keys:\n  " + secret + ": x\n  " + secret + ": y", "f.yaml:3: the key (not repeated, it may be a key) is there twice, first in line 2"},
		"unknown field":        {"keys:\n  tool:\n    sha265: x", `f.yaml:3: unknown key "sha265"; did you mean "sha256"?`},
		"doubled field":        {"keys:\n  tool:\n    sha256: x\n    sha256: y", `f.yaml:4: the key "sha256" is there twice, first in line 3`},
		"a list":               {"keys: [" + secret + "]", "f.yaml:1: wrong kind of value; want keys and values, indented below"},
		"a list for one":       {"keys:\n  tool: [" + secret + "]", "f.yaml:2: wrong value; want the SHA-256 of a key, or {sha256: ..., routes: [...]}"},
		"nothing":              {"keys:\n  tool:", "f.yaml:2: keys.tool.sha256: is not the SHA-256"},
		"one key twice":        {"keys:\n  a: " + hashB + "\n  b: " + strings.ToLower(hashB), "f.yaml:3: keys.b.sha256: a has the same key; generate another one"},
		"no routes":            {"keys: {a: {sha256: " + hashA + ", routes: []}}", "f.yaml:1: keys.a.routes: is empty"},
		"routes of nothing":    {"keys:\n  a:\n    sha256: " + hashA + "\n    routes:", "f.yaml:4: keys.a.routes: has no value; list the models, or leave it out to allow all"},
		"no operator":          {"keys: {a: {sha256: " + hashA + ", operator: maybe}}", "f.yaml:1: wrong kind of value; want true or false"},
		"bad routes":           {"keys: {a: {sha256: " + hashA + ", routes: [\"\"]}}", "f.yaml:1: keys.a.routes: takes model names"},
		"routes of one":        {"keys: {a: {sha256: " + hashA + ", routes: local}}", "f.yaml:1: wrong kind of value; want a list"},
		"all interfaces":       {"listen: 0.0.0.0:8000", `f.yaml:1: listen: other machines can reach "0.0.0.0:8000", and there are no keys: add the lines of "llmsup key new NAME" to llmsup.yaml, or pass --insecure-no-auth`},
		"no host":              {"listen: :8000", "f.yaml:1: listen: other machines"},
		"a name":               {"listen: box:8000", "f.yaml:1: listen: other machines"},
		"no bool":              {"insecure_no_auth: " + secret, "f.yaml:1: wrong kind of value; want true or false"},
		"origin with a path":   {"allowed_origins: [\"*\", \"https://a.example/x\"]", "f.yaml:1: allowed_origins: number 2 is not an origin (examples: https://app.example.com, https://*.example.com, http://localhost:*, \"null\" in quotes, or \"*\" for all)"},
		"origin without any":   {"allowed_origins: [a.example]", "f.yaml:1: allowed_origins: number 1 is not"},
		"origin of all names":  {"allowed_origins: [\"https://*\"]", "f.yaml:1: allowed_origins: number 1 is not"},
		"null without quotes":  {"allowed_origins: [null]", "f.yaml:1: allowed_origins: number 1 is not an origin (examples: https://app.example.com, https://*.example.com, http://localhost:*, \"null\" in quotes"},
		"host with a port":     {"allowed_hosts: [\"a.example:80\"]", "f.yaml:1: allowed_hosts: number 1 is not"},
		"too many connections": {"max_connections: 2000000", "f.yaml:1: max_connections: 2000000 is not between 1 and 1048576"},
		"no connections":       {"max_connections: 0", "f.yaml:1: max_connections: 0 is not"},
		"less than no grace":   {"shutdown_grace: -1s", "f.yaml:1: shutdown_grace: -1s is neither 0s nor between 100ms and 1h"},
		"hardly a grace":       {"shutdown_grace: 1ns", "f.yaml:1: shutdown_grace: 1ns is neither"},
		"grace for ever":       {"shutdown_grace: 2h", "f.yaml:1: shutdown_grace: 2h0m0s is neither 0s nor between 100ms and 1h"},
		"no time":              {"body_timeout: 0s", "f.yaml:1: body_timeout: 0s is not between 1s and 24h"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte(tc.text))
			if err == nil {
				err = c.Validate()
			}
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestAccessDefaults(t *testing.T) {
	keys := "keys: {a: " + hashA + "}\n"
	for text, want := range map[string]struct{ open, host bool }{
		"":                            {false, true},
		"listen: localhost:0":         {false, true},
		"listen: \"[::1]:0\"":         {false, true},
		"listen: 127.8.8.8:0":         {false, true},
		keys:                          {false, false},
		keys + "listen: 0.0.0.0:0":    {false, false},
		keys + "allowed_hosts: [a.b]": {false, true},
		"allowed_hosts: [\"*\"]":      {false, false},
		"insecure_no_auth: true":      {false, true},
		"{insecure_no_auth: true, listen: \":0\"}": {true, true},
	} {
		c := mustParse(t, text)
		if err := c.Validate(); err != nil || c.Unauthenticated() != want.open || c.CheckHost() != want.host {
			t.Errorf("%q: open %t, host %t, %v", text, c.Unauthenticated(), c.CheckHost(), err)
		}
	}
	c := mustParse(t, "allowed_origins: [\"https://A.example:443\", \"http://b:80\", \"http://localhost:3000\", \"app://x\", \"https://*.B.example:443\", \"http://[::1]:*\", \"null\", \"*\"]\nallowed_hosts: [Box.Example.]")
	if err := c.Validate(); err != nil || strings.Join(c.AllowedOrigins, " ") != "https://a.example http://b http://localhost:3000 app://x https://*.b.example http://[::1]:* null *" || c.AllowedHosts[0] != "box.example" {
		t.Errorf("%q, %q, %v", c.AllowedOrigins, c.AllowedHosts, err)
	}
}

func TestAnyPage(t *testing.T) {
	for origin, want := range map[string]bool{
		"*": true, "null": true, "https://*.com": true, "https://*.co.uk": true, "https://*.github.io": true, "http://*.com:*": true, "https://*.vercel.app:8443": true,
		"https://*.example.com": false, "https://example.com": false, "http://localhost:*": false, "http://*.localhost:*": false, "https://*.internal": false, "https://*.my.github.io": false,
	} {
		if got := (Origins{"http://b", origin}).AnyPage(); got != want {
			t.Errorf("%s: %t", origin, got)
		}
	}
}

func TestAccessChanges(t *testing.T) {
	b, c := hex.EncodeToString(make([]byte, 32)), strings.Repeat("c", 64)
	old := mustParse(t, "keys: {gone: "+hashA+", same: "+hashB+", wider: {sha256: "+b+", routes: [a]}, admin: "+c+"}")
	next := mustParse(t, "keys: {new: "+hashA+", same: {sha256: "+strings.ToLower(hashB)+"}, wider: "+b+", admin: {sha256: "+c+", operator: true}}\nallowed_hosts: [a]\nallowed_origins: [\"*\"]\nbody_timeout: 5s\nshutdown_grace: 0s")
	want := []string{"shutdown_grace: 0s", "body_timeout: 5s", "allowed_origins: changed", "allowed_hosts: changed", "key admin: changed", "key gone: removed", "key new: added", "key wider: changed"}
	if got := next.Changes(old); !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
	none := mustParse(t, "")
	if got := none.Changes(mustParse(t, "keys: {a: "+hashA+"}")); !slices.Equal(got, []string{"key a: removed", "keys: none are left, so unauthenticated calls are allowed from everyone who can reach 127.0.0.1:8000"}) {
		t.Errorf("%q", got)
	}
	if err := mustParse(t, "\nmax_connections: 9").CheckReloadable(none); err == nil || !strings.Contains(err.Error(), `f.yaml:2: max_connections: a reload cannot change it; put "4096" back`) {
		t.Errorf("%v", err)
	}
}

// TestFreeOnlyByDefault: a key for local models only is free_only, unless the file sets
// that to false.
func TestFreeOnlyByDefault(t *testing.T) {
	for fields, free := range map[string]bool{
		`routes: ["local/*"]`:                          true,
		`routes: [local, "local/*", local/a]`:          true,
		`routes: ["local/*"], free_only: false`:        false,
		`routes: ["local/*", gpt-4o]`:                  false,
		`routes: ["local*"]`:                           false,
		`routes: ["*"]`:                                false,
		`routes: ["local/*", gpt-4o], free_only: true`: true,
		`free_only: true`:                              true,
		`free_only: false`:                             false,
	} {
		c := mustParse(t, "keys: {a: {sha256: "+hashA+", "+fields+"}}")
		if got := c.Keys["a"].Free(); got != free {
			t.Errorf("%s: free %t, want %t", fields, got, free)
		}
	}
}
