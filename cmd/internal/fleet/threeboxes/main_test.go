package threeboxes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/llmsup/llmsup/cmd/internal/fleet/fleettest"
)

// The builds of llmsup that the boxes run. The second one is what a rolling upgrade installs.
const (
	firstVersion, nextVersion = "1.0.0-test", "1.0.1-test"
	buildsVariable            = "LLMSUP_TEST_BUILDS" // the folder that has them, by their versions
)

// TestMain builds llmsup, and runs the tests in a sandbox.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleInit:
		os.Exit(runInit())
	case roleTests:
		fleettest.Main(m)
	}
	builds, err := os.MkdirTemp("", "llmsup-builds")
	if err == nil {
		err = build(builds)
	}
	code := 1
	if err == nil {
		code, err = enterSandbox(buildsVariable + "=" + builds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	_ = os.RemoveAll(builds)
	os.Exit(code)
}

// build builds llmsup twice, outside of the sandbox, since Go may download modules. It has no
// race detector, with which a small machine is too slow for the calls.
func build(dir string) error {
	for _, version := range []string{firstVersion, nextVersion} {
		out, err := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-X main.version="+version, "-o", filepath.Join(dir, version), "github.com/llmsup/llmsup/cmd/llmsup").CombinedOutput()
		if err != nil {
			return fmt.Errorf("build llmsup: %w\n%s", err, out)
		}
	}
	return nil
}

// program returns a build of llmsup.
func program(version string) string { return filepath.Join(os.Getenv(buildsVariable), version) }
