package systemd

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary run as a llmsup that got sockets from systemd.
func TestMain(m *testing.M) {
	if os.Getenv("SYSTEMD_TEST_LISTEN") != "" {
		serveOne()
		return
	}
	os.Exit(m.Run())
}

// serveOne sets LISTEN_PID, which systemd does after its fork, and answers one
// connection.
func serveOne() {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	l, err := Listener()
	if err != nil {
		fmt.Print("error: " + err.Error())
		return
	}
	if l == nil {
		fmt.Print("none")
		return
	}
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if _, there := os.LookupEnv(name); there {
			fmt.Print(name + " is still in the environment")
			return
		}
	}
	// A child must not inherit the socket.
	out, err := exec.Command("/bin/sh", "-c", "ls -l /proc/self/fd | grep -c socket:").Output()
	if text := strings.TrimSpace(string(out)); text != "0" {
		fmt.Print("a child has sockets: " + text + " " + err.Error())
		return
	}
	fmt.Print("listens\n")
	conn, err := l.Accept()
	if err != nil {
		panic(err)
	}
	fmt.Fprint(conn, "hello")
	conn.Close()
	l.Close()
}

// notifySocket listens on NOTIFY_SOCKET. next returns the next message.
func notifySocket(t *testing.T) (next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return now.Nano() / 1000
}

func TestMessages(t *testing.T) {
	next := notifySocket(t)
	m, err := Find()
	if err != nil || !m.Listens() {
		t.Fatalf("listens %v, %v", m.Listens(), err)
	}
	cases := map[string]struct {
		send func() error
		want string
	}{
		"ready":        {func() error { return m.Ready("demo ready") }, "READY=1\nSTATUS=demo ready"},
		"reloaded":     {func() error { return m.Ready("") }, "READY=1"},
		"stopping":     {func() error { return m.Stopping("bye") }, "STOPPING=1\nSTATUS=bye"},
		"alive":        {m.Alive, "WATCHDOG=1"},
		"status":       {func() error { return m.Status("demo loading") }, "STATUS=demo loading"},
		"a forged one": {func() error { return m.Status("a\nREADY=1\r\x00b") }, "STATUS=a READY=1 b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if err := c.send(); err != nil {
				t.Fatal(err)
			}
			if got := next(); got != c.want {
				t.Errorf("systemd gets %q, want %q", got, c.want)
			}
		})
	}

	t.Run("reloading", func(t *testing.T) {
		before := monotonic(t)
		if err := m.Reloading(); err != nil {
			t.Fatal(err)
		}
		after := monotonic(t)
		text, ok := strings.CutPrefix(next(), "RELOADING=1\nMONOTONIC_USEC=")
		at, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil || at < before || at > after {
			t.Errorf("the time is %q, want one between %d and %d", text, before, after)
		}
	})
}

func TestNoSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "20000000")
	m, err := Find()
	if err != nil || m.Listens() || m.Watchdog() != 0 {
		t.Errorf("listens %v, watchdog %s, error %v; want nothing", m.Listens(), m.Watchdog(), err)
	}
	if err := m.Ready(""); err != nil {
		t.Errorf("ready: %v", err)
	}
}

func TestMissingSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	m, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Alive(); err == nil || !strings.HasPrefix(err.Error(), "notify systemd: ") {
		t.Errorf("error %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	notifySocket(t)
	own := strconv.Itoa(os.Getpid())
	cases := map[string]struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		"for us":              {"20000000", own, 20 * time.Second, false},
		"for any process":     {"20000000", "", 20 * time.Second, false},
		"for another process": {"20000000", "1", 0, false},
		"none":                {"", "", 0, false},
		"nonsense":            {"soon", own, 0, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("WATCHDOG_USEC", c.usec)
			t.Setenv("WATCHDOG_PID", c.pid)
			m, err := Find()
			if (err != nil) != c.fails || m.Watchdog() != c.want {
				t.Errorf("watchdog %s, error %v; want %s", m.Watchdog(), err, c.want)
			}
			if _, there := os.LookupEnv("WATCHDOG_USEC"); there {
				t.Error("WATCHDOG_USEC is still in the environment")
			}
		})
	}
}

// startWithSockets runs the test binary as systemd does, with sockets from number 3 on.
func startWithSockets(t *testing.T, files ...*os.File) (out io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SYSTEMD_TEST_LISTEN=1", "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES=llmsup.socket")
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return pipe
}

type fileOf interface{ File() (*os.File, error) }

func file(t *testing.T, of fileOf) *os.File {
	t.Helper()
	f, err := of.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestListener: the process listens on the passed socket. The socket stays open when the
// process exits, and the next process serves the waiting connections.
func TestListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket := file(t, l.(*net.TCPListener))
	for range 2 {
		conn, err := net.Dial("tcp", l.Addr().String()) // no process accepts yet
		if err != nil {
			t.Fatal(err)
		}
		out := startWithSockets(t, socket)
		output, _ := io.ReadAll(io.LimitReader(out, int64(len("listens\n"))))
		if string(output) != "listens\n" {
			rest, _ := io.ReadAll(out)
			t.Fatalf("it prints %q", string(output)+string(rest))
		}
		if answer, err := io.ReadAll(conn); err != nil || string(answer) != "hello" {
			t.Errorf("the answer is %q, %v", answer, err)
		}
		conn.Close()
	}
}

func TestNoListener(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	a := file(t, tcp.(*net.TCPListener))
	cases := map[string]struct {
		files []*os.File
		want  string
	}{
		"none":         {nil, "none"},
		"two":          {[]*os.File{a, a}, "error: systemd passed 2 sockets; llmsup.socket must have one"},
		"of UNIX":      {[]*os.File{file(t, local)}, "error: systemd passed a unix socket; llmsup.socket must have one"},
		"not a socket": {[]*os.File{plain}, "error: systemd passed a file that is not a listening socket"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			output, _ := io.ReadAll(startWithSockets(t, c.files...))
			if !strings.HasPrefix(string(output), c.want) {
				t.Errorf("it prints %q, want %q", output, c.want)
			}
		})
	}
}
