package threeboxes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
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

// build builds llmsup twice, as this test was built. It happens outside of the sandbox, where
// Go may download modules.
func build(dir string) error {
	for _, version := range []string{firstVersion, nextVersion} {
		args := []string{"build", "-buildvcs=false", "-ldflags", "-X main.version=" + version, "-o", filepath.Join(dir, version)}
		if raceDetector() {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "github.com/llmsup/llmsup/cmd/llmsup")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build llmsup: %w\n%s", err, out)
		}
	}
	return nil
}

// raceDetector returns whether this test has the race detector.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// program returns a build of llmsup.
func program(version string) string { return filepath.Join(os.Getenv(buildsVariable), version) }
