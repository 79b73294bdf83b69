package main

import (
	"slices"
	"strings"
	"testing"
)

func TestFlagsFirst(t *testing.T) {
	for name, tc := range map[string]struct{ line, want string }{
		"after a name":          {"drain chat --timeout 5m", "drain --timeout 5m -- chat"},
		"between names":         {"drain chat --yes mail --for 2h", "drain --yes --for 2h -- chat mail"},
		"with =":                {"drain chat --timeout=5m", "drain --timeout=5m -- chat"},
		"one dash":              {"logs chat -f -n 5", "logs -f -n 5 -- chat"},
		"no space":              {"logs chat -n5 -f", "logs -n 5 -f -- chat"},
		"no space, no value":    {"logs -fn5", "logs -fn5"},
		"one dash, a long name": {"logs -lines 5 -lines=5", "logs -lines 5 -lines=5"},
		"one dash with =":       {"logs -n=5", "logs -n=5"},
		"no space after --":     {"logs -- -n5", "logs -- -n5"},
		"a negative value":      {"drain chat --timeout -5m", "drain --timeout -5m -- chat"},
		"before the names":      {"resume --json chat", "resume --json -- chat"},
		"no names":              {"restart --json", "restart --json"},
		"nothing at all":        {"drain", "drain"},
		"after --":              {"drain chat -- --timeout", "drain -- chat --timeout"},
		"only after --":         {"drain -- --yes", "drain -- --yes"},
		"-- at the end":         {"drain chat --", "drain -- chat"},
		"a dash":                {"drain - --yes", "drain --yes -- -"},
		"help":                  {"drain chat --help", "drain --help"},
		"unknown":               {"drain chat --nonsense", "drain --nonsense -- chat"},
		"without its value":     {"drain chat --yes --timeout", "drain --yes --timeout"},
		"completion":            {"drain chat --generate-bash-completion", "drain chat --generate-bash-completion"},
		"flags of llama-server": {"start --model x -- --flag 1", "start --model x -- --flag 1"},
		"start with a word":     {"start chat --model x -- --flag", "start --model x -- chat --flag"},
		"a subcommand":          {"key new crawler --add --config f", "key new --add --config f -- crawler"},
		"half a subcommand":     {"key --add crawler", "key --add crawler"},
		"a model":               {"route local --json", "route --json -- local"},
		"an unknown command":    {"dance chat --yes", "dance chat --yes"},
		"no command":            {"--version", "--version"},
		"a flag of several":     {"logs -n 5 a -f b --control-socket s c", "logs -n 5 -f --control-socket s -- a b c"},
		"names that are flags":  {"logs -- -f", "logs -- -f"},
	} {
		line := append([]string{"llmsup"}, strings.Fields(tc.line)...)
		before := slices.Clone(line)
		if got := strings.Join(flagsFirst(newApp(nil), line)[1:], " "); got != tc.want {
			t.Errorf("%s: %s\nwant %s", name, got, tc.want)
		}
		if !slices.Equal(line, before) {
			t.Errorf("%s: the command line itself was changed", name)
		}
	}
	if got := flagsFirst(newApp(nil), []string{"llmsup"}); len(got) != 1 {
		t.Errorf("%q", got)
	}
}
