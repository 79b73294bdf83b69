package fileedit

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/llmsup/llmsup/cmd/internal/config"
)

const (
	hashOfA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashOfB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	hashOfC = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
)

// withHashes writes the hashes that a text names in short.
func withHashes(text string) string {
	return strings.NewReplacer("AA", hashOfA, "BB", hashOfB, "CC", hashOfC).Replace(text)
}

// TestRevoke: the entry goes with its comments, and every other byte stays. A
// case is the text before and after, or the text and the error.
func TestRevoke(t *testing.T) {
	for name, tc := range map[string]struct{ before, after, err string }{
		"a hash":   {"listen: 127.0.0.1:1 # here\nkeys:\n  a: AA\n  b: BB # bob\n# end\n", "listen: 127.0.0.1:1 # here\nkeys:\n  b: BB # bob\n# end\n", ""},
		"one line": {"keys:\n  b: BB\n  a: {sha256: \"AA\", routes: [local, \"local/*\"]}  # alice\nmax_body: 1MiB\n", "keys:\n  b: BB\nmax_body: 1MiB\n", ""},
		"a block with comments": {
			"keys:\n  # all of them:\n\n  # alice's,\n  # for two\n  a:\n    # inside\n    sha256: AA # hash\n\n    routes:\n      - local\n      # deeper\n  # bob's\n  b: BB\n",
			"keys:\n  # all of them:\n\n  # bob's\n  b: BB\n", "",
		},
		"a comment to the left inside it": {"keys:\n  a:\n# left\n    sha256: AA\n# of b\n  b: BB\n", "keys:\n# of b\n  b: BB\n", ""},
		"the last of a file":              {"keys:\n  b: BB\n  a: AA", "keys:\n  b: BB\n", ""},
		"the only one":                    {"keys: # who may call\n  a: AA\n# end\nmax_body: 1MiB\n", "keys: # who may call\n# end\nmax_body: 1MiB\n", ""},
		"CRLF":                            {"# x\r\nkeys:\r\n  a: AA\r\n  b: BB\r\n", "# x\r\nkeys:\r\n  b: BB\r\n", ""},
		"a byte order mark":               {"\uFEFFkeys:\n  a: AA\n  b: BB\n", "\uFEFFkeys:\n  b: BB\n", ""},
		"words of two bytes":              {"x: &x # ü\nkeys: {ü: 1}", "", "f.yaml:1: unknown key \"x\""},
		"after wide runes":                {"# 日本語\nkeys: { b: BB, \"a\": AA } # 日本\n", "# 日本語\nkeys: { b: BB } # 日本\n", ""},
		"quoted":                          {"\"keys\":\n  'a': AA\n  b: BB\n", "\"keys\":\n  b: BB\n", ""},
		"indented at the root":            {"  keys:\n      a: AA\n      b: BB\n", "  keys:\n      b: BB\n", ""},
		"brackets to the left":            {"keys:\n  a: {\n    sha256: AA,\n    routes: [\n local # }\n]\n  }\n  b: BB\n", "keys:\n  b: BB\n", ""},
		"between documents' marks":        {"---\nkeys:\n  b: BB\n  a: AA\n...\n# end\n", "---\nkeys:\n  b: BB\n...\n# end\n", ""},
		"a number for a name":             {"keys:\n  a: AA\n  1: BB\n", "keys:\n  1: BB\n", ""},
		"a tag":                           {"keys: !!map\n  a: AA\n  b: BB\n", "keys: !!map\n  b: BB\n", ""},
		"an anchor that no alias uses":    {"keys: &k\n  a: &a {sha256: AA}\n  b: BB\n", "keys: &k\n  b: BB\n", ""},

		"flow, first":        {"keys: {a: AA, b: BB}\n", "keys: {b: BB}\n", ""},
		"flow, last":         {"keys: {b: BB, a: AA}\n", "keys: {b: BB}\n", ""},
		"flow, middle":       {"keys: {b: BB, a: {sha256: AA, routes: [\"x,}\", 'y'']']}, c: CC} # all\n", "keys: {b: BB, c: CC} # all\n", ""},
		"flow, wide runes":   {"keys: {b: {sha256: BB, routes: [\"日本\", 'ü']}, a: AA, c: CC}", "keys: {b: {sha256: BB, routes: [\"日本\", 'ü']}, c: CC}", ""},
		"flow, only":         {"keys: {a: AA}\n", "keys: {}\n", ""},
		"flow, with a comma": {"keys: {a: AA,}\n", "keys: {}\n", ""},
		"flow, two a line":   {"keys: {b: BB, a: AA,\n  c: CC}\n", "keys: {b: BB,\n  c: CC}\n", ""},
		"flow, in lines": {
			"keys: {\n  # bob's\n  b: BB, # bob, {b}\n  # alice's\n  a: {sha256: AA}, # alice\n  # carol's\n  c: CC\n}\n",
			"keys: {\n  # bob's\n  b: BB, # bob, {b}\n  # carol's\n  c: CC\n}\n", "",
		},
		"flow, last line":    {"keys: {\n  b: BB,\n  a: AA # alice\n}\n", "keys: {\n  b: BB,\n}\n", ""},
		"flow, last bracket": {"keys: {\n\tb: BB, # bob\n\ta: AA}\n", "keys: {\n\tb: BB, # bob\n\t}\n", ""},
		"JSON":               {`{"keys": {"a": {"sha256": "AA"}, "b": "BB"}, "listen": "127.0.0.1:1"}`, `{"keys": {"b": "BB"}, "listen": "127.0.0.1:1"}`, ""},

		"of another name":            {"keys: {b: BB, c: CC}", "", "f.yaml has no key \"a\"; there are b, c"},
		"of no name":                 {"listen: 127.0.0.1:1", "", "f.yaml has no key \"a\"; it has no keys"},
		"no YAML":                    {"keys: {", "", "f.yaml:1: this is not YAML"},
		"unknown key elsewhere":      {"keys: {a: AA}\nlisten_on: x", "", "f.yaml:2: unknown key \"listen_on\""},
		"an anchor that is used":     {"keys:\n  a: &a {sha256: AA}\n  b: {<<: *a, sha256: BB}\n", "", "f.yaml:2: keys.a: the keys are written in a form that llmsup does not edit; remove it by hand"},
		"a merged key":               {"keys:\n  <<: {a: AA}\n  b: BB\n", "", "f.yaml:2: keys.a: the keys are written in a form that llmsup does not edit; remove it by hand"},
		"one over a merged one":      {"keys:\n  <<: {a: AA}\n  a: CC\n  b: BB\n", "", "f.yaml:3: keys.a: the keys are"},
		"a question mark":            {"keys:\n  ? a\n  : AA\n  b: BB\n", "", "f.yaml:2: keys.a: the keys are"},
		"an anchor at the name":      {"keys:\n  &a a: AA\n  b: BB\n", "keys:\n  b: BB\n", ""},
		"the last, for all machines": {"listen: :8000\nkeys:\n  a: AA\n", "", "nothing was changed, because llmsup would reject the file: f.yaml:1: listen: other machines can reach \":8000\", and there are no keys"},
		"all may call":               {"listen: :8000\ninsecure_no_auth: true\nkeys:\n  a: AA\n", "listen: :8000\ninsecure_no_auth: true\nkeys:\n", ""},
		"one with a budget":          {"keys: {a: AA, b: BB}\nbudget: {per_key: {a: {daily: 1}}}\n", "", "nothing was changed, because llmsup would reject the file: f.yaml:2: budget.per_key: there is no key \"a\"; keys has b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := revokeKey("f.yaml", []byte(withHashes(tc.before)), "a")
			if string(got) != withHashes(tc.after) || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("%v\n%s\nwant %s\n%s", err, got, tc.err, withHashes(tc.after))
			}
		})
	}
	if _, _, err := revokeKey("f.yaml", nil, "llmsup-SECRETSECRETSECRETSECRETSE"); err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a key for a name: %v", err)
	}
}

// TestAdd: the line goes behind the keys that there are, and every other byte
// stays.
func TestAdd(t *testing.T) {
	const a = `a: {sha256: "` + hashOfA + `"}`
	for name, tc := range map[string]struct{ before, after, err string }{
		"nothing":               {"", "keys:\n  " + a + "\n", ""},
		"comments alone":        {"# x\n", "# x\nkeys:\n  " + a + "\n", ""},
		"no keys":               {"listen: 127.0.0.1:1\n# keys:\n#   x: y", "listen: 127.0.0.1:1\n# keys:\n#   x: y\nkeys:\n  " + a, ""},
		"no keys, indented":     {"  max_body: 1MiB\n", "  max_body: 1MiB\n  keys:\n    " + a + "\n", ""},
		"no keys, CRLF":         {"max_body: 1MiB\r\n", "max_body: 1MiB\r\nkeys:\r\n  " + a + "\r\n", ""},
		"empty keys":            {"keys: # none\n# c\nmax_body: 1MiB\n", "keys: # none\n  " + a + "\n# c\nmax_body: 1MiB\n", ""},
		"empty keys, last":      {"keys:", "keys:\n  " + a, ""},
		"a block":               {"keys:\n    b: BB # bob\n    # after\n\nmax_body: 1MiB\n", "keys:\n    b: BB # bob\n    " + a + "\n    # after\n\nmax_body: 1MiB\n", ""},
		"a block in a block":    {"keys:\n  b:\n    sha256: BB\n    # his\nmax_body: 1MiB\n", "keys:\n  b:\n    sha256: BB\n    # his\n  " + a + "\nmax_body: 1MiB\n", ""},
		"flow":                  {"keys: {b: BB} # all\n", "keys: {b: BB, " + a + "} # all\n", ""},
		"flow, with a comma":    {"keys: {\n  b: BB, # bob\n}\n", "keys: {\n  b: BB, " + a + " # bob\n}\n", ""},
		"flow, empty":           {"keys: {}\n", "keys: {" + a + "}\n", ""},
		"JSON":                  {`{"listen": "127.0.0.1:1"}`, `{"listen": "127.0.0.1:1", keys: {` + a + `}}`, ""},
		"a byte order mark":     {"\uFEFFmax_body: 1MiB\n", "\uFEFFmax_body: 1MiB\nkeys:\n  " + a + "\n", ""},
		"for the first time":    {"listen: :8000\n", "listen: :8000\nkeys:\n  " + a + "\n", ""},
		"the same name":         {"# x\nkeys: {a: BB}\n", "", "f.yaml:2: keys.a: there is a key of this name; choose another name, or revoke that key first (llmsup key revoke a)"},
		"the same hash":         {"keys: {b: AA}\n", "", "nothing was changed, because llmsup would reject the file: f.yaml:1: keys.b.sha256: a has the same key"},
		"an alias":              {"budget: {per_key: &k {}}\nkeys: *k\n", "", "f.yaml: the keys are written in a form that llmsup does not edit; run llmsup key new without --add, and put its lines into the file by hand"},
		"a word for nothing":    {"keys: ~\n", "", "f.yaml: the keys are written"},
		"after a document":      {"max_body: 1MiB\n...\n", "", "f.yaml: the keys are written"},
		"keys of a merge":       {"<<: {keys: {b: BB}}\n", "", "f.yaml: the keys are written"},
		"an unknown key in it":  {"keyz: x\n", "", "f.yaml:1: unknown key \"keyz\""},
		"another encoding":      {"\xff\xfem\x00", "", "f.yaml:1: wrong kind of value"},
		"another encoding that": {"\xff\xfe#\x00\n\x00", "", "f.yaml: the keys are written"},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := addKey("f.yaml", []byte(withHashes(tc.before)), "a", config.ClientKey{SHA256: hashOfA})
			if string(got) != withHashes(tc.after) || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
				t.Errorf("%v\n%s\nwant %s\n%s", err, got, tc.err, withHashes(tc.after))
			}
		})
	}
}

// TestEntry: an entry is read as it was written.
func TestEntry(t *testing.T) {
	for name, k := range map[string]config.ClientKey{
		"on": {}, "null": {}, "123": {}, "1e3": {}, "0x1f": {}, "a.b-c_d": {FreeOnly: new(false)}, "true": {FreeOnly: new(true)},
		"x": {Routes: []string{"local", "local/*", "a: b"[:2], "~", "*", "&x", "a,b", "{}", "ü\"'\\", "no", "#x"}},
	} {
		k.SHA256 = hashOfA
		text := "keys:\n  " + KeyEntry(name, k) + "\n"
		if c, err := config.Parse("f.yaml", []byte(text)); err != nil || !reflect.DeepEqual(c.Keys, map[string]config.ClientKey{name: k}) {
			t.Errorf("%v\n%s", err, text)
		}
	}
	if got := KeyEntry("crawler", config.ClientKey{SHA256: "x", Routes: []string{"local", "local/*"}}); got != `crawler: {sha256: "x", routes: [local, "local/*"]}` {
		t.Error(got)
	}
}

// FuzzKeys: an edit cuts or inserts one range, changes nothing but its key, and
// what was added can be revoked.
func FuzzKeys(f *testing.F) {
	for _, seed := range []string{
		"", "listen: x", "keys:\n  a: AA\n  b: {sha256: BB, routes: [x]} # b\n", "keys: {a: AA, b: BB}\r\n", "# c\nkeys:\n  # d\n  a:\n    sha256: AA\n",
		"keys: {\n a: AA, # x\n b: 'B''B',\n}", "keys: &x\n  <<: {a: AA}\n  ? b\n  : \"B\\\"B\"\n", "--- {keys: {\"a\": {sha256: AA}}}\n...", "\uFEFFkeys:\n  a: |\n    x\n  b: BB",
		"keys: {a: AA,#',\n}", // a key can be added there, and not be revoked
	} {
		f.Add([]byte(withHashes(seed)), "a")
		f.Add([]byte(withHashes(seed)), "new")
	}
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		if !config.ValidClientName(name) {
			return
		}
		if got, _, err := revokeKey("f.yaml", raw, name); err == nil {
			checkEdit(t, raw, got, func(keys map[string]any) { delete(keys, name) })
		}
		got, _, err := addKey("f.yaml", raw, name, config.ClientKey{SHA256: hashOfA, Routes: []string{"local", "local/*"}})
		if err != nil {
			return
		}
		checkEdit(t, got, raw, func(keys map[string]any) { delete(keys, name) })
		back, _, err := revokeKey("f.yaml", got, name)
		if err != nil && !strings.Contains(err.Error(), "listen: other machines") {
			t.Fatalf("%v\n%q\nfrom %q", err, got, raw)
		}
		if err == nil {
			checkEdit(t, got, back, func(keys map[string]any) { delete(keys, name) })
		}
	})
}

// checkEdit checks that one of two texts is the other without one range, and that
// their values are the same but for the keys, which change as want does.
func checkEdit(t *testing.T, before, after []byte, want func(map[string]any)) {
	t.Helper()
	long, short := before, after
	prefix, suffix := 0, 0
	for prefix < len(short) && long[prefix] == short[prefix] {
		prefix++
	}
	for suffix < len(short)-prefix && long[len(long)-1-suffix] == short[len(short)-1-suffix] {
		suffix++
	}
	if prefix+suffix != len(short) {
		t.Fatalf("%q\nis more than one range away from\n%q", after, before)
	}
	var a, b struct {
		Keys map[string]any `yaml:"keys"`
		Rest map[string]any `yaml:",inline"`
	}
	if err := yaml.Unmarshal(before, &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(after, &b); err != nil {
		t.Fatalf("%v\n%q", err, after)
	}
	want(a.Keys)
	same := func(a, b map[string]any) bool { return len(a)+len(b) == 0 || reflect.DeepEqual(a, b) }
	if !same(a.Keys, b.Keys) || !same(a.Rest, b.Rest) {
		t.Fatalf("%q\nhas not the values of\n%q", after, before)
	}
}
