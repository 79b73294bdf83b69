package config

import (
	"strings"
	"testing"
	"time"
)

func TestOnDemand(t *testing.T) {
	const wrongWithout = "applies only with load: on_demand; add that, or remove this"
	for settings, want := range map[string]string{
		"load: always":    "",
		"load: on_demand": "",
		"load: on_demand, idle_unload: 0s, pinned: true": "",
		"load: on_demand, idle_unload: 720h":             "",
		"vram: 10GiB":                                    "",
		"load: sometimes":                                `f.yaml:2: servers.a.load: "sometimes" is neither always nor on_demand`,
		"idle_unload: 15m":                               "f.yaml:2: servers.a.idle_unload: " + wrongWithout,
		"load: always, pinned: true":                     "f.yaml:2: servers.a.pinned: " + wrongWithout,
		"load: on_demand, idle_unload: 100ms":            "f.yaml:2: servers.a.idle_unload: 100ms is neither 0s (never) nor between 1s and 720h",
		"load: on_demand, idle_unload: -1s":              "f.yaml:2: servers.a.idle_unload: -1s is neither",
		"vram: lots":                                     "f.yaml:2: wrong value; want a size (example: 32MiB)",
	} {
		t.Run(settings, func(t *testing.T) {
			c, err := Parse("f.yaml", []byte("servers:\n  a: {model: /a.gguf, "+settings+"}\n"))
			if err == nil {
				err = c.Resolve(noHeader)
			}
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	parse := func(settings string) *Config {
		c, err := Parse("f.yaml", []byte("servers: {a: {model: /a.gguf"+settings+"}}"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse(", load: on_demand")
	for settings, want := range map[string]int{
		", load: on_demand": 0, ", load: on_demand, idle_unload: 15m": 0, ", load: on_demand, ctx_size: 9": 0,
		"": 1, ", load: on_demand, idle_unload: 1m": 1, ", load: on_demand, pinned: true": 1, ", load: on_demand, vram: 1GiB": 1,
	} {
		if got := parse(settings).Changes(c); len(got) != want {
			t.Errorf("after a change to %q: %q", settings, got)
		}
	}
	if a := c.Servers["a"]; !a.OnDemand() || a.IdleUnload != 15*time.Minute {
		t.Errorf("%+v", a)
	}
}
