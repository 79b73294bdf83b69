package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// startServer runs a real llama-server on the model until the test ends, and returns a client
// that reaches it under any host name.
func startServer(t *testing.T, model string, flags ...string) *http.Client {
	t.Helper()
	// A socket's path has at most 107 bytes, and t.TempDir has the test's name in it.
	dir, err := os.MkdirTemp("/tmp", "llmsup") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, output := filepath.Join(dir, "s.sock"), filepath.Join(dir, "log")
	log, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()

	args := []string{
		"--model", model, "--host", socket, "--port", "1",
		"--ctx-size", "8192", "--parallel", "1", "--threads", "1", "--alias", "demo", // more threads would be slower
	}
	cmd := exec.CommandContext(t.Context(), findServer(t), append(args, flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = time.Second
	// If the test is killed, the kernel kills the server. It does so when the thread
	// ends that started the server, so that thread waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(exited)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start llama-server: %v", err)
	}
	t.Cleanup(func() {
		<-exited // the end of the test's context has killed the server
		if t.Failed() {
			text, _ := os.ReadFile(output)
			t.Logf("llama-server's output:\n%s", text)
		}
	})

	client := &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DisableKeepAlives: true, // no goroutine stays at the end of a test
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		},
	}
	waitHealthy(t, client, exited)
	return client
}

// findServer returns the llama-server to test with.
func findServer(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("LLMSUP_TEST_LLAMA_SERVER"); path != "" {
		return path
	}
	path, err := exec.LookPath("llama-server")
	if err != nil {
		t.Fatalf("no llama-server on PATH nor in LLMSUP_TEST_LLAMA_SERVER: run scripts/test.sh, which gets one (%v)", err)
	}
	return path
}

func waitHealthy(t *testing.T, client *http.Client, exited <-chan struct{}) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	err := errors.New("no request yet")
	for {
		select {
		case <-exited:
			t.Fatal("llama-server ended before it was ready")
		case <-deadline:
			t.Fatalf("llama-server is not ready after a minute: %v", err)
		case <-tick.C:
		}
		var answer *http.Response
		if answer, err = client.Get("http://llama-server/health"); err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
		err = fmt.Errorf("/health returned %s", answer.Status)
	}
}
