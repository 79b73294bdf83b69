package main

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
)

// TestSIGHUP: SIGHUP reloads the configuration.
func TestSIGHUP(t *testing.T) {
	t.Parallel()
	file := newTestConfig(t, "{}\n")
	in := launch(t, nil, "--config", file.path, "--demo")
	file.write("routes:\n  other: {primary: demo}\n")
	if err := in.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	in.awaitReady()
	in.await("reloaded", func(control.Server) bool { return strings.Contains(in.logged(), "reloaded: route other: added") })
	if r := in.chat("other", `,"max_tokens":1`); r.status != 200 {
		t.Errorf("%+v", r)
	}
}

// TestClosedTerminal: when its terminal is closed, llmsup stops, with its llama-server. A
// SIGHUP while the terminal is open is a reload.
func TestClosedTerminal(t *testing.T) {
	t.Parallel()
	// If this process ignored SIGHUP, as under nohup, its children would as well.
	taken := make(chan os.Signal, 1)
	signal.Notify(taken, syscall.SIGHUP)
	defer signal.Stop(taken)
	master, slave := openTerminal(t)
	dir := shortDir(t)
	cmd := exec.Command("llmsup", "start", "--demo", "--listen", "127.0.0.1:0", "--state-dir", dir,
		"--control-socket", dir+"/c.sock", "--llama-server", llamaServer(t))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	reloaded := make(chan struct{})
	go func() { // an unread terminal would block llmsup's log
		lines, found := bufio.NewScanner(master), false
		for lines.Scan() {
			if !found && strings.Contains(lines.Text(), "reloaded; nothing has changed") {
				found = true
				close(reloaded)
			}
		}
	}()
	in := newInstance(t, dir)
	in.awaitListening()
	pid := in.awaitReady().PID
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reloaded:
	case <-time.After(testTimeout):
		t.Fatal("no reload after a SIGHUP while the terminal is open")
	}
	if now := in.awaitReady(); now.PID != pid {
		t.Errorf("%+v", now)
	}
	master.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("llmsup still runs without its terminal")
	}
	if isRunning(pid) {
		t.Error("llama-server still runs")
	}
}
