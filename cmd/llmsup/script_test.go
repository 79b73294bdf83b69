package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/models/demo"
)

// exits runs a command and checks its exit code: exits CODE llmsup ...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	began := time.Now()
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s: exit %d, want %d", strings.Join(args[1:], " "), got, want)
	}
	if took := time.Since(began); took > testTimeout {
		ts.Fatalf("%s: took %s", strings.Join(args[1:], " "), took)
	}
}

// interrupted runs a command, sends it SIGINT once its output matches a pattern, and
// checks its exit code: interrupted CODE PATTERN program args... The output is in the
// files out and err afterwards.
func interrupted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupted CODE PATTERN program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Env = append(cmd.Environ(), "LLMSUP_CONTROL_SOCKET="+ts.Getenv("LLMSUP_CONTROL_SOCKET"))
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	errs, err := os.Create(ts.MkAbs("err"))
	ts.Check(err)
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	ts.Check(cmd.Start())
	matches := eventually(testTimeout, func() bool {
		printed, err := os.ReadFile(out.Name())
		ts.Check(err)
		return pattern.Match(printed)
	})
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait() // the exit code is checked below
	if got := cmd.ProcessState.ExitCode(); !matches || got != want {
		ts.Fatalf("%s: exit %d, want %d; it printed\n%s%s", strings.Join(args[2:], " "), got, want, ts.ReadFile("out"), ts.ReadFile("err"))
	}
}

// demoGGUF creates a valid model: demo-gguf FILE.
func demoGGUF(ts *testscript.TestScript, _ bool, args []string) {
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	ts.Check(demo.Write(f, demo.Small))
}

// running starts a daemon and waits until its servers are ready: running [flags of
// start]. It is stopped at the end of the script.
func running(ts *testscript.TestScript, _ bool, args []string) {
	end := startDaemon(ts, args)
	client := control.NewClient(ts.Getenv("LLMSUP_CONTROL_SOCKET"))
	if !eventually(testTimeout, func() bool {
		s, err := client.Status(context.Background())
		return err == nil && len(s.Servers) > 0 && !slices.ContainsFunc(s.Servers, isNotReady)
	}) {
		ts.Fatalf("llmsup is not ready:\n%s", end())
	}
}

func isNotReady(s control.Server) bool { return !isReady(s) }

// callStatus makes a call to the running daemon and checks its status: call-status
// STATUS MODEL [KEYFILE].
func callStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: call-status STATUS MODEL [KEYFILE]")
	}
	status, err := control.NewClient(ts.Getenv("LLMSUP_CONTROL_SOCKET")).Status(context.Background())
	ts.Check(err)
	body := `{"model":"` + args[1] + `","max_tokens":2,"messages":[{"role":"user","content":"1"}]}`
	req, err := http.NewRequest(http.MethodPost, "http://"+status.Listen+"/v1/chat/completions", strings.NewReader(body))
	ts.Check(err)
	if len(args) == 3 {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[2])))
	}
	r, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	ts.Check(err)
	if strconv.Itoa(r.StatusCode) != args[0] {
		ts.Fatalf("%s: status %d, want %s: %s", args[1], r.StatusCode, args[0], answer)
	}
}
