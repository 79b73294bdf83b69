package config

import (
	"slices"
	"strings"
	"testing"
)

func TestChanges(t *testing.T) {
	const before = `
max_body: 1MiB
upstreams:
  one: {base_url: "http://a/v1"}
  two: {base_url: "http://b/v1"}
routes:
  gone: {primary: one}
  same: {primary: one}
  slower: {primary: one, timeout: 1s}
  listed: {primary: one, fallbacks: [{to: openrouter}]}
`
	const after = `
max_body: 2MiB
log_level: debug
upstreams:
  one: {base_url: "http://a/v2"}
  three: {base_url: "http://c/v1"}
routes:
  new: {primary: one}
  same: {primary: one}
  slower: {primary: one, timeout: 2s}
  listed: {primary: one, fallbacks: [{to: openrouter, model: a/b}]}
`
	want := []string{
		"max_body: changed", "log_level: debug",
		"upstream one: changed", "upstream three: added", "upstream two: removed",
		"route gone: removed", "route listed: changed", "route new: added", "route slower: changed",
	}
	old, next := mustParse(t, before), mustParse(t, after)
	if got := next.Changes(old); !slices.Equal(got, want) {
		t.Errorf("got %q,\nwant %q", got, want)
	}
	if got := next.Changes(next); len(got) != 0 {
		t.Errorf("nothing has changed, but %q", got)
	}
}

// TestReloadKeepsKeys: a reload removes the last key only with insecure_no_auth.
func TestReloadKeepsKeys(t *testing.T) {
	const keys = "keys: {a: " + hashA + ", b: " + hashB + "}\n"
	for name, tc := range map[string]struct{ now, next, want string }{
		"no keys any more":       {keys, "log_level: debug", "keys: f.yaml no longer has any keys, so this reload would allow unauthenticated calls; restore a key, or set insecure_no_auth: true"},
		"an empty list":          {keys, "\nkeys:\n", "f.yaml:2: keys: f.yaml no longer has any keys"},
		"in a fleet":             {keys, "fleet: {nats: \"nats://a:1\", name: a, advertise: \"http://a:1\", key_file: k}", "keys: neither f.yaml nor the fleet would have keys any more, so that calls would need none;"},
		"insecure_no_auth":       {keys, "insecure_no_auth: true", ""},
		"it is insecure already": {"insecure_no_auth: true\n" + keys, "log_level: debug", "keys: f.yaml no longer has any keys"},
		"other keys":             {keys, "keys: {c: " + hashA + "}", ""},
		"there were none":        {"log_level: debug", "log_level: debug", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := mustParse(t, tc.next).CheckReloadable(mustParse(t, tc.now))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestCheckReloadable(t *testing.T) {
	now := mustParse(t, "listen: 127.0.0.1:1\nstate_dir: /a\ncontrol_socket: /s\n")
	for text, want := range map[string]string{
		"listen: 127.0.0.1:1\nstate_dir: /a\ncontrol_socket: /s\nlog_level: debug\n":                     "",
		"\nlisten: 127.0.0.1:2\nstate_dir: /a\ncontrol_socket: /s\n":                                     `f.yaml:2: listen: a reload cannot change it; put "127.0.0.1:1" back, or restart llmsup`,
		"listen: 127.0.0.1:1\nstate_dir: /b\ncontrol_socket: /s\n":                                       `f.yaml:2: state_dir: a reload cannot`,
		"listen: 127.0.0.1:1\nstate_dir: /a\ncontrol_socket: /t\n":                                       `f.yaml:3: control_socket: a reload cannot`,
		"listen: 127.0.0.1:1\nstate_dir: /a\ncontrol_socket: /s\nlog_format: console\n":                  `f.yaml:4: log_format: a reload cannot`,
		"listen: 127.0.0.1:1\nstate_dir: /a\ncontrol_socket: /s\n\ntls: {cert_file: /c, key_file: /k}\n": `f.yaml:5: tls: a reload cannot`,
	} {
		err := mustParse(t, text).CheckReloadable(now)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
