package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llmsup/llmsup/cmd/internal/enginetest"
	"github.com/llmsup/llmsup/models/demo/demotest"
)

// TestMain puts llmsup on PATH, which is this test binary under another name, for the
// scripts in testdata and for the tests that run the daemon.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		// With the race detector, every llmsup would otherwise take a second to exit.
		"GORACE": "atexit_sleep_ms=0",
		// By default llama-server has a thread for each core, and they spin while they wait
		// for each other: with fewer idle cores than threads a token takes a hundred times
		// as long.
		"LLAMA_ARG_THREADS": "1",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	// The tests call no upstream outside of this machine, and do not depend on the user's
	// settings. What a test runs keeps the variables that the test sets.
	if name := filepath.Base(os.Args[0]); commandsOfTests[name] == nil {
		for _, variable := range os.Environ() {
			name, _, _ := strings.Cut(variable, "=")
			setting := strings.HasPrefix(name, "LLMSUP_") && !strings.HasPrefix(name, "LLMSUP_TEST_") && name != "LLMSUP_CACHE_DIR"
			if setting || name == "OPENROUTER_API_KEY" {
				if err := os.Unsetenv(name); err != nil {
					panic(err)
				}
			}
		}
	}
	testscript.Main(tidy{m}, commandsOfTests)
}

// commandsOfTests are the programs that this test binary is, under other names.
var commandsOfTests = map[string]func(){
	"llmsup": main, "offline": offline, "test-engine": enginetest.Main, "test-container": enginetest.Container,
}

// tidy removes the tests' shared files at the end.
type tidy struct{ *testing.M }

func (m tidy) Run() int {
	defer demotest.Cleanup()
	return m.M.Run()
}

func TestScripts(t *testing.T) {
	commands := map[string]func(*testscript.TestScript, bool, []string){
		"exits": exits, "call-status": callStatus, "demo-gguf": demoGGUF, "running": running, "daemon": beginDaemon, "end-daemon": endDaemon, "interrupted": interrupted, "session": session,
	}
	maps.Copy(commands, callCommands)
	testscript.Run(t, testscript.Params{
		Dir:      "testdata",
		Deadline: time.Now().Add(10 * time.Minute), // of all of them: a daemon that starts by mistake must not hang the tests
		Setup: func(env *testscript.Env) error {
			env.Setenv("LLMSUP_CONTROL_SOCKET", env.WorkDir+"/c.sock")
			env.Setenv("LLMSUP_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("LLMSUP_LISTEN", "127.0.0.1:0")
			program, err := exec.LookPath("llmsup")
			env.Setenv("LLMSUP", program)
			env.Setenv("LLAMA_SERVER", llamaServer(t))
			env.Setenv("REAL_LLAMA_SERVER", llamaServer(t))
			env.Values[scriptCallsKey{}] = &scriptCalls{stop: func() {}}
			scripts, _ := filepath.Abs("../../scripts")
			env.Setenv("SCRIPTS", scripts)
			// Files of a script have no mode of their own.
			_ = os.Chmod(filepath.Join(env.WorkDir, "bin", "llama-server"), 0o700)
			return err
		},
		Cmds: commands,
	})
}

// notRun skips a test that this machine cannot run, and makes scripts/test.sh list it in
// its last lines. .ci/run installs what the tests need.
func notRun(t *testing.T, why string) {
	t.Helper()
	if f, err := os.OpenFile(os.Getenv("LLMSUP_TEST_NOT_RUN"), os.O_APPEND|os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString(t.Name() + ": " + why + "\n")
		f.Close()
	}
	t.Skip("not run: " + why)
}

// programOf returns the program that a variable names; scripts/test.sh sets it to what the script
// prints. If it is empty, because this machine cannot get that program, the test is not run.
func programOf(t *testing.T, variable, script string) string {
	t.Helper()
	name, known := os.LookupEnv(variable)
	if !known {
		t.Fatalf("%s is not set: run scripts/test.sh, which sets it to what %s prints, or set it to \"\" to leave out the test that needs it", variable, script)
	}
	if name == "" {
		notRun(t, script+" cannot get its program here, and says why")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
