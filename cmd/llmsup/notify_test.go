package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fakeSystemd imitates systemd: it receives llmsup's notifications and holds its socket.
type fakeSystemd struct {
	t        *testing.T
	dir      string
	messages chan string
	last     string // that awaitMessage has found
	notify   string
	socket   *os.File
	url      string
}

func newFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	m := &fakeSystemd{t: t, dir: shortDir(t), messages: make(chan string, 1000)}
	m.notify = filepath.Join(m.dir, "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 8192)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.messages <- string(buf[:n])
		}
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.url = "http://" + l.Addr().String()
	if m.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	l.Close() // the descriptor that is left is systemd's
	t.Cleanup(func() { m.socket.Close() })
	return m
}

// start runs llmsup as systemd does, which sets LISTEN_PID after its fork.
func (m *fakeSystemd) start(env []string, args ...string) *instance {
	m.t.Helper()
	all := append([]string{
		"-c", `LISTEN_PID=$$ exec llmsup "$@"`, "sh",
		"start", "--state-dir", m.dir, "--control-socket", filepath.Join(m.dir, "c.sock"),
		"--llama-server", llamaServer(m.t), "--log-format", "json", "--log-level", "debug",
	}, args...)
	in := newInstance(m.t, m.dir)
	in.url = m.url
	in.cmd = exec.Command("/bin/sh", all...)
	in.cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+m.notify, "WATCHDOG_USEC=600000", "LISTEN_FDS=1", "LISTEN_FDNAMES=llmsup.socket"), env...)
	in.cmd.ExtraFiles = []*os.File{m.socket}
	in.cmd.WaitDelay = time.Second
	pipe, err := in.cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := in.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go in.follow(pipe, make(chan string, 1))
	m.t.Cleanup(in.stop)
	return in
}

// awaitMessage waits for a message that contains a text, and returns those before it
// except the watchdog's.
func (m *fakeSystemd) awaitMessage(in *instance, what string) (before []string) {
	m.t.Helper()
	timeout := time.After(testTimeout)
	for {
		select {
		case word := <-m.messages:
			if strings.Contains(word, what) {
				m.last = word
				return before
			}
			if word != "WATCHDOG=1" {
				before = append(before, word)
			}
		case <-in.done:
			m.t.Fatalf("llmsup exited (%v) without the message %q; it sent %q", in.err, what, before)
		case <-timeout:
			m.t.Fatalf("llmsup did not send %q within %s, but %q", what, testTimeout, before)
		}
	}
}

// TestNotifiesSystemd: the messages to systemd from the start to the stop.
func TestNotifiesSystemd(t *testing.T) {
	t.Parallel()
	m := newFakeSystemd(t)
	file := newTestConfig(t, "listen: 127.0.0.1:1\nservers:\n  small: {model: "+demoModel(t)+"}\n")
	in := m.start(nil, "--config", file.path)
	if before := m.awaitMessage(in, "READY=1\nSTATUS=small "); len(before) > 0 {
		t.Errorf("before READY it sent %q", before)
	}
	if !strings.Contains(m.last, "STATUS=small ready") { // it may be ready before llmsup is
		m.awaitMessage(in, "STATUS=small ready")
	}
	m.awaitMessage(in, "WATCHDOG=1")
	m.awaitMessage(in, "WATCHDOG=1")

	s, err := in.client.Status(t.Context())
	if err != nil || "http://"+s.Listen != m.url {
		t.Errorf("status says that it listens at %s, %v; want the socket's address, %s", s.Listen, err, m.url)
	}
	if r := in.chat("local", `,"max_tokens":3`); r.status != http.StatusOK {
		t.Errorf("a call at the socket: %d %s", r.status, r.body)
	}
	if log := in.logged(); !strings.Contains(log, "the socket is used") || !strings.Contains(log, `"listen":"127.0.0.1:1"`) {
		t.Error("the log does not report that listen is ignored")
	}

	reload := func(how func(), status string) {
		t.Helper()
		how()
		m.awaitMessage(in, "RELOADING=1\nMONOTONIC_USEC=")
		reported := false // the states of the servers may be reported before the reload is over
		for _, word := range m.awaitMessage(in, "READY=1") {
			reported = reported || strings.HasPrefix(word, status)
			if !strings.HasPrefix(word, "STATUS=") {
				t.Errorf("during the reload it sent %q", word)
			}
		}
		if !reported {
			m.awaitMessage(in, status)
		}
	}
	hangUp := func() {
		if err := in.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
	}
	file.write("nonsense: 1\n")
	reload(hangUp, "STATUS=the last reload was refused: "+file.path+":1: unknown key \"nonsense\"")
	file.write("servers:\n  small: {model: " + demoModel(t) + "}\n  more: {model: " + demoModel(t) + "}\n")
	reload(func() {
		if code, out := in.reload(); code != 0 {
			t.Errorf("exit %d, %s", code, out)
		}
	}, "STATUS=more ")
	if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.awaitMessage(in, "STOPPING=1\nSTATUS=")
	<-in.done
	if in.err != nil {
		t.Errorf("it ended with %v", in.err)
	}
}

// TestSocketNeedsKeys: the address of the socket decides whether keys are needed, not
// listen.
func TestSocketNeedsKeys(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := newFakeSystemd(t)
	if m.socket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	in := m.start(nil, "--demo", "--listen", "127.0.0.1:8000")
	select {
	case <-in.done:
	case <-time.After(testTimeout):
		t.Fatal("it runs")
	}
	if code := in.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(in.logged(), "there are no keys") {
		t.Errorf("exit %d: %s", code, in.logged())
	}
}

// TestSocketOutlivesLlmsup: llmsup is stopped and started again on its socket, while
// clients with kept and with new connections make calls. No call fails.
func TestSocketOutlivesLlmsup(t *testing.T) {
	t.Parallel()
	c := newFakeCloud(t)
	m := newFakeSystemd(t)
	config := c.config(t, "60s")
	in := m.start(c.env(), "--demo", "--config", config)
	m.awaitMessage(in, "READY=1")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls atomic.Int64
	var callers sync.WaitGroup
	for i := range 8 {
		transport := &http.Transport{DisableKeepAlives: i%2 == 0, MaxIdleConnsPerHost: 8}
		callers.Go(func() {
			defer transport.CloseIdleConnections()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				if err := callOnce(transport, m.url); err != nil {
					t.Errorf("call %d of caller %d: %v", calls.Load(), i, err)
					cancel()
					return
				}
				calls.Add(1)
			}
		})
	}
	for range 4 {
		before := calls.Load()
		eventually(testTimeout, func() bool { return calls.Load() >= before+50 || ctx.Err() != nil })
		if err := in.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-in.done
		if in.err != nil {
			t.Fatalf("it ended with %v", in.err)
		}
		in = m.start(c.env(), "--demo", "--config", config)
		m.awaitMessage(in, "READY=1")
	}
	cancel()
	callers.Wait()
	t.Logf("%d calls", calls.Load())
}

// callOnce makes a call that must be answered. Without GetBody net/http cannot repeat it.
func callOnce(transport http.RoundTripper, url string) error {
	const body = `{"model":"local/demo","max_tokens":3,"messages":[{"role":"user","content":"count"}]}`
	req, err := http.NewRequest(http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.GetBody = nil
	resp, err := (&http.Client{Transport: transport, Timeout: 50 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{resp.Status + ": " + string(answer)}
	}
	return nil
}

type statusError struct{ text string }

func (e *statusError) Error() string { return e.text }
