package config

import (
	"strings"
	"testing"
)

const (
	someKey  = "{sha256: " + "0123456789012345678901234567890123456789012345678901234567890123" + "}"
	otherKey = "{sha256: " + "1123456789012345678901234567890123456789012345678901234567890123" + "}"
)

func mustShare(t *testing.T, text string) *Shared {
	t.Helper()
	s, err := ParseShared("fleet.yaml", []byte(text), 7)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseShared(t *testing.T) {
	for name, tc := range map[string]struct {
		text     string
		sections string
		wrong    string
	}{
		"all":                   {"keys: {a: " + someKey + "}\nroutes: {m: {primary: openrouter}}\nbudget: {daily: 5}", "keys routes budget", ""},
		"one":                   {"routes: {m: {primary: openrouter}}", "routes", ""},
		"with others":           {"listen: 127.0.0.1:1\nbudget: {daily: 5}\nupstreams: {box2: {base_url: http://h/v1}}", "budget", ""},
		"no routes, no keys":    {"routes: {}\nkeys: {}", "keys routes", ""},
		"none":                  {"listen: 127.0.0.1:1", "", "fleet.yaml has none of the sections keys, routes, budget"},
		"empty":                 {"", "", "fleet.yaml has none of the sections"},
		"a section cut off":     {"routes:\n", "", "fleet.yaml has none of the sections"},
		"an unknown key":        {"budget: {daily: 5}\nrouts: {}", "", `fleet.yaml:2: unknown key "routs"; did you mean "routes"?`},
		"an unknown field":      {"routes:\n  m: {primry: x}", "", `fleet.yaml:2: unknown key "primry"; did you mean "primary"?`},
		"a wrong kind":          {"budget: {daily: much}", "", "fleet.yaml:1: wrong value; want an amount in USD"},
		"a second document":     {"budget: {daily: 5}\n---\n", "", "fleet.yaml:2: a second YAML document"},
		"not YAML":              {"budget: {daily: 5", "", "this is not YAML"},
		"an alias, and its use": {"upstreams: {x: &u {base_url: 'http://h/v1'}, y: *u}\nbudget: {daily: 5}", "budget", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseShared("fleet.yaml", []byte(tc.text), 1)
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("%v, want %q", err, tc.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.Sections, " "); got != tc.sections {
				t.Errorf("the sections are %q, want %q", got, tc.sections)
			}
		})
	}
}

// TestUse: the fleet's keys and routes are in place of the file's, its budget is in addition,
// and an error names the file that has the mistake.
func TestUse(t *testing.T) {
	const inFleet = "\nfleet: {nats: 'nats://a', name: gpu1, advertise: 'http://gpu1:8000', key_file: /key}\n"
	for name, tc := range map[string]struct {
		file, shared string
		wrong        string
		replaced     string
	}{
		"nothing of its own": {"", "keys: {a: " + someKey + "}", "", ""},
		"both": {
			"keys: {b: " + otherKey + "}\nroutes: {n: {primary: nowhere}}\nbudget: {daily: 1}",
			"keys: {a: " + someKey + "}\nroutes: {m: {primary: openrouter}}\nbudget: {daily: 5, per_key: {a: {daily: 1}}}", "", "keys routes",
		},
		"only the budget": {"routes: {n: {primary: openrouter}}\nbudget: {daily: 1}", "budget: {monthly: 9}", "", ""},
		"a bad fallback":  {"", "\nroutes:\n  m:\n    primary: openrouter\n    fallback: 'https://k:v@h/'", "fleet.yaml:5: routes.m.fallback: has a user", ""},
		"not a key":       {"", "\nkeys:\n  a: 12", "fleet.yaml:3: keys.a.sha256: is not the SHA-256", ""},
		"a limit of a key that the fleet does not have": {
			"budget: {per_key: {b: {daily: 1}}}\nkeys: {b: " + otherKey + "}", "keys: {a: " + someKey + "}",
			`f.yaml:1: budget.per_key: there is no key "b"; keys has a`, "",
		},
		"a limit of the fleet for no key": {"", "budget:\n  per_key:\n    b: {daily: 1}", `fleet.yaml:3: budget.per_key: there is no key "b"; keys has none`, ""},
		"a limit of a key of the file":    {"keys: {b: " + otherKey + "}", "budget: {per_key: {b: {daily: 1}}}", "", ""},
		"a limit without an amount":       {"", "budget:\n  daily:\n  monthly: 5", "fleet.yaml:2: budget.daily: has no amount", ""},
		"a route that no model serves":    {"", "keys:\n  a:\n    sha256: " + someKey[9:73] + "\n    routes: [local/none]", "fleet.yaml:4: keys.a.routes: no route serves", ""},
		"a mistake of the file":           {"upstreams:\n  x: {base_url: y}", "keys: {a: " + someKey + "}", "f.yaml:2: upstreams.x.base_url:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, tc.file+inFleet)
			c.Use(mustShare(t, tc.shared))
			err := c.Resolve(func(string) string { return "" })
			if tc.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wrong) {
					t.Errorf("%v, want %q", err, tc.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.Replaced(), " "); got != tc.replaced {
				t.Errorf("replaced are %q, want %q", got, tc.replaced)
			}
		})
	}
}

func TestUseReplaces(t *testing.T) {
	c := mustParse(t, "keys: {b: "+otherKey+"}\nroutes: {n: {primary: openrouter}}\nbudget: {daily: 1}")
	shared := mustShare(t, "keys: {a: "+someKey+"}\nroutes: {m: {primary: openrouter}}\nbudget: {daily: 5}")
	for range 2 { // a Shared is used again by the next reload
		c.Use(shared)
		if err := c.Resolve(func(string) string { return "" }); err != nil {
			t.Fatal(err)
		}
		_, own := c.Routes["n"]
		_, fleets := c.Routes["m"]
		_, builtIn := c.Routes["gpt-4o"]
		if len(c.Keys) != 1 || c.Keys["a"].SHA256 == "" || own || !fleets || !builtIn {
			t.Errorf("keys %v, routes %v", c.Keys, c.Routes)
		}
	}
	if c.Budget.Daily.String() != "1 USD" || c.FleetBudget.Daily.String() != "5 USD" {
		t.Errorf("the limits are %v for the box and %v for the fleet", c.Budget.Daily, c.FleetBudget.Daily)
	}
}

// TestAwaitsKeys: a box that other machines can reach starts without keys if a fleet may
// define them, and takes no call until then.
func TestAwaitsKeys(t *testing.T) {
	const fleet = "fleet: {nats: 'nats://a', name: gpu1, advertise: 'http://gpu1:8000', key_file: /key}\n"
	for name, tc := range map[string]struct {
		text   string
		shared string
		want   bool
		wrong  bool
	}{
		"no fleet":       {"listen: 0.0.0.0:8000\n", "", false, true},
		"a fleet":        {"listen: 0.0.0.0:8000\n" + fleet, "", true, false},
		"only loopback":  {fleet, "", false, false},
		"its own keys":   {"listen: 0.0.0.0:8000\nkeys: {a: " + someKey + "}\n" + fleet, "", false, false},
		"the fleet's":    {"listen: 0.0.0.0:8000\n" + fleet, "keys: {a: " + someKey + "}", false, false},
		"open to all":    {"insecure_no_auth: true\nlisten: 0.0.0.0:8000\n" + fleet, "", false, false},
		"none in either": {"listen: 0.0.0.0:8000\n" + fleet, "keys: {}", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustParse(t, tc.text)
			if tc.shared != "" {
				c.Use(mustShare(t, tc.shared))
			}
			err := c.Validate()
			if (err != nil) != tc.wrong || err == nil && c.AwaitsKeys() != tc.want {
				t.Errorf("awaits keys: %t, %v", c.AwaitsKeys(), err)
			}
		})
	}
}

// TestReplacedChanges: a reload says that an edited section is not used.
func TestReplacedChanges(t *testing.T) {
	shared := mustShare(t, "keys: {a: "+someKey+"}")
	with := func(text string, s *Shared) *Config {
		c := mustParse(t, text)
		c.Use(s)
		return c
	}
	const keys, more = "keys: {b: " + otherKey + "}", "keys: {b: {sha256: " + "1123456789012345678901234567890123456789012345678901234567890123" + ", operator: true}}"
	for name, tc := range map[string]struct {
		old, now *Config
		want     bool
	}{
		"the fleet's are new":     {with(keys, nil), with(keys, shared), true},
		"a key is added":          {with("log_level: info", shared), with(keys, shared), true},
		"a key is changed":        {with(keys, shared), with(more, shared), true},
		"nothing is changed":      {with(keys, shared), with(keys, shared), false},
		"the file has none":       {with("log_level: info", nil), with("log_level: info", shared), false},
		"the fleet's are no more": {with(keys, shared), with(keys, nil), false},
	} {
		got := strings.Contains(strings.Join(tc.now.Changes(tc.old), "\n"), "keys of llmsup.yaml: not used, since they are from the fleet, version 7")
		if got != tc.want {
			t.Errorf("%s: %q", name, tc.now.Changes(tc.old))
		}
	}
}
