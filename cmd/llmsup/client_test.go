package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"golang.org/x/sys/unix"
)

// clientAddress is where a client reaches llmsup in its network namespace, and what the
// documents tell users to configure.
const clientAddress = "127.0.0.1:8000"

// client runs programs from npm as users do, against a llmsup of the test. They have a
// home of their own and no network but clientAddress.
type client struct {
	t    *testing.T
	home string // their home and working directory
	env  []string
	sock string // leads to llmsup
}

// needClients returns the folder with the node_modules that scripts/test.sh installs.
// Without them the test is not run.
func needClients(t *testing.T) string {
	t.Helper()
	folder, known := os.LookupEnv("LLMSUP_TEST_CLIENTS")
	if !known {
		t.Fatal("LLMSUP_TEST_CLIENTS is not set: run scripts/test.sh, which installs the clients, or set it to \"\" to leave out the tests that need them")
	}
	if folder == "" {
		notRun(t, "needs npm, and node 20 or newer")
	}
	return folder
}

// newClient returns a client of the llmsup at url, http://HOST:PORT. env is added to the
// environment of its programs.
func newClient(t *testing.T, url string, env ...string) *client {
	t.Helper()
	modules := needClients(t)
	c := &client{t: t, home: shortDir(t)}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(c.home, "node_modules")); err != nil {
		t.Fatal(err)
	}
	c.sock = filepath.Join(c.home, "llmsup.sock")
	forwardSocket(t, c.sock, strings.TrimPrefix(url, "http://"))
	c.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "TMPDIR=" + c.home, "LANG=C.UTF-8", "TERM=dumb", "CI=true",
		"OPENAI_BASE_URL=http://" + clientAddress + "/v1", "OPENAI_API_KEY=client-secret",
		"ANTHROPIC_BASE_URL=http://" + clientAddress, "ANTHROPIC_API_KEY=client-secret",
	}, env...)
	return c
}

// script runs a file of testdata/clients with node and returns what it prints on stdout.
func (c *client) script(name string, args ...string) string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "clients", name))
	if err != nil {
		c.t.Fatal(err)
	}
	copied := c.write(name, string(text)) // node looks for modules beside the script
	code, out, errs := c.run(append([]string{"node", copied}, args...)...)
	if code != 0 {
		c.t.Fatalf("%s: exit %d\n%s%s", name, code, out, errs)
	}
	return out
}

// write creates a file in the home of the client and returns its path.
func (c *client) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// run runs a program to its end and returns its exit code and output. Nothing of its
// process group is left afterwards.
func (c *client) run(command ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testTimeout)
	defer cancel()
	var out, errs strings.Builder
	cmd := exec.CommandContext(ctx, "offline", append([]string{c.sock}, command...)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.home, c.env, &out, &errs, time.Second
	cmd.SysProcAttr = offlineProcess()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			notRun(c.t, "this user may not create a network namespace, and clients would reach the network")
		}
		c.t.Fatal(err)
	}
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if ctx.Err() != nil {
		c.t.Fatalf("%q did not end:\n%s%s", command, &out, &errs)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok && !errors.Is(err, exec.ErrWaitDelay) {
		c.t.Fatal(err)
	} else if ok {
		code = exit.ExitCode()
	}
	return code, out.String(), errs.String()
}

// offlineProcess creates a process in a network namespace of its own.
func offlineProcess() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true, Cloneflags: unix.CLONE_NEWNET}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	return attr
}

// offline runs a program in this process's network namespace, which has no other
// address than loopback, and leads clientAddress to a UNIX socket:
// offline SOCKET PROGRAM args...
func offline() {
	code, err := runOffline(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "offline: %v\n", err)
		code = 127
	}
	os.Exit(code)
}

func runOffline(sock string, command []string) (int, error) {
	if err := loopbackUp(); err != nil {
		return 0, fmt.Errorf("bring up loopback: %w", err)
	}
	listener, err := net.Listen("tcp", clientAddress)
	if err != nil {
		return 0, err
	}
	go forward(listener, "unix", sock)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// forwardSocket accepts connections on a UNIX socket until the test ends, and forwards
// them to an address.
func forwardSocket(t *testing.T, sock, address string) {
	t.Helper()
	listener, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var forwarding sync.WaitGroup
	forwarding.Go(func() { forward(listener, "tcp", address) })
	t.Cleanup(func() {
		_ = listener.Close()
		forwarding.Wait()
	})
}

// forward connects each connection of a listener with an address, until the listener is
// closed and the connections have ended.
func forward(listener net.Listener, network, address string) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		in, err := listener.Accept()
		if err != nil {
			return
		}
		connections.Go(func() {
			defer in.Close()
			out, err := net.Dial(network, address)
			if err != nil {
				return
			}
			defer out.Close()
			var halves sync.WaitGroup
			for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
				halves.Go(func() {
					_, _ = io.Copy(to, from)
					_ = to.(interface{ CloseWrite() error }).CloseWrite()
				})
			}
			halves.Wait()
		})
	}
}

// TestClientIsOffline shows that a client reaches llmsup, and nothing else.
func TestClientIsOffline(t *testing.T) {
	t.Parallel()
	needClients(t)
	upstream := newScriptedUpstream(t)
	other := newScriptedUpstream(t)
	c := newClient(t, upstream.URL)
	script := c.write("reach.mjs", `for (const url of process.argv.slice(2)) {
		const reached = await fetch(url, { method: 'POST', body: url }).then((r) => r.status, (error) => error.cause.code);
		console.log(reached);
	}`)
	code, out, errs := c.run("node", script, "http://"+clientAddress+"/", other.URL, "http://192.0.2.1/")
	if want := "418\nECONNREFUSED\nENETUNREACH\n"; code != 0 || out != want {
		t.Errorf("exit %d, it printed\n%s%s\nwant\n%s", code, out, errs, want)
	}
	if calls := upstream.received(); len(calls) != 1 || len(other.received()) != 0 {
		t.Errorf("the first got %v, the second %v", calls, other.received())
	}
}

// TestClientVersions: router/CLIENTS.md gives the versions that the tests run.
func TestClientVersions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../router/CLIENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := os.ReadFile("../../scripts/clients/package.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"dependencies", "optionalDependencies"} {
		versions := gjson.GetBytes(installed, kind).Map()
		if len(versions) == 0 {
			t.Errorf("package.json has no %s", kind)
		}
		for name, version := range versions {
			if !strings.Contains(string(page), version.Str) {
				t.Errorf("router/CLIENTS.md does not have version %s of %s", version.Str, name)
			}
		}
	}
}
