package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestConfigFile: which file the key commands edit.
func TestConfigFile(t *testing.T) {
	of := func(line []string, service string) (path string, err error) {
		app := &cli.App{Flags: []cli.Flag{configFileFlag()}, Action: func(c *cli.Context) error {
			path, err = configFile(c, service)
			return nil
		}}
		if err := app.Run(append([]string{"llmsup"}, line...)); err != nil {
			t.Fatal(err)
		}
		return path, err
	}
	if path, err := of(nil, "key_test.go"); path != "key_test.go" || err != nil {
		t.Errorf("the service's: %s, %v", path, err)
	}
	if path, err := of([]string{"--config", "x.yaml"}, "key_test.go"); path != "x.yaml" || err != nil {
		t.Errorf("a named one: %s, %v", path, err)
	}
	if path, err := of(nil, "nowhere.yaml"); err == nil || err.Error() != "there is no nowhere.yaml; pass the configuration file with --config FILE" {
		t.Errorf("none: %s, %v", path, err)
	}
	if _, err := of(nil, "key_test.go/x"); err == nil || !strings.HasSuffix(err.Error(), "; run the command as root, or pass another configuration file with --config FILE") {
		t.Errorf("one that cannot be read: %v", err)
	}
}
