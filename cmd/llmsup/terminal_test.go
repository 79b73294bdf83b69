package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// screen emulates the control sequences that llmsup may use. None of them clears text
// above the frame, or text that has scrolled away.
type screen struct {
	t             *testing.T
	mu            sync.Mutex
	columns, rows int
	lines         [][]rune // all that were ever written; the last rows of them are visible
	row, column   int      // of the cursor, in lines
	escape        string   // one that is not complete
}

func newScreen(t *testing.T, columns, rows int) *screen {
	return &screen{t: t, columns: columns, rows: rows, lines: [][]rune{nil}}
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range string(p) {
		switch {
		case s.escape != "":
			if s.escape += string(r); strings.ContainsRune("ABCDEFGHJKSTfhlmsu", r) {
				s.control(s.escape)
				s.escape = ""
			}
		case r == '\x1b':
			s.escape = "\x1b"
		case r == '\r':
			s.column = 0
		case r == '\n':
			s.down()
		default:
			if s.column+runeColumns(r) > s.columns {
				s.down()
			}
			for s.column >= len(s.lines[s.row]) {
				s.lines[s.row] = append(s.lines[s.row], ' ')
			}
			s.lines[s.row][s.column] = r
			s.column += runeColumns(r)
		}
	}
	return len(p), nil
}

func (s *screen) down() {
	if s.row++; s.row == len(s.lines) {
		s.lines = append(s.lines, nil)
	}
	s.column = 0
}

func (s *screen) control(escape string) {
	n := 1
	_, _ = fmt.Sscanf(escape, "\x1b[%dA", &n)
	switch {
	case strings.HasSuffix(escape, "A"):
		s.row = max(s.row-n, len(s.lines)-s.rows, 0)
	case escape == "\x1b[2K":
		s.lines[s.row] = nil
	case escape == "\x1b[J":
		s.lines[s.row] = s.lines[s.row][:min(s.column, len(s.lines[s.row]))]
		for i := s.row + 1; i < len(s.lines); i++ {
			s.lines[i] = nil
		}
	case !strings.HasSuffix(escape, "m"):
		s.t.Errorf("llmsup prints the control sequence %q", escape)
	}
}

// String is all that was written, the scrollback included.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, line := range s.lines {
		b.WriteString(strings.TrimRight(string(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// onTerminal runs a command on a terminal until ok returns true for what the terminal
// shows. Then it sends Ctrl-C.
func onTerminal(t *testing.T, s *screen, ok func(shown string) bool, program string, args ...string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(s.columns), Row: uint16(s.rows)}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	shown := make(chan struct{})
	go func() {
		_, _ = io.Copy(s, master) // EIO when the last of its processes has ended
		close(shown)
	}()
	if !eventually(testTimeout, func() bool { return ok(s.String()) }) {
		t.Errorf("the terminal shows\n%s", s)
	}
	if _, err := master.WriteString("\x03"); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", strings.Join(args, " "), err)
	}
	<-shown
}

// openTerminal makes a pseudo-terminal (pty(7)).
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Not by Fd, which would have Close wait for the reader.
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var ioctlErr error
	err = raw.Control(func(fd uintptr) {
		if ioctlErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctlErr == nil {
			n, ioctlErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err := errors.Join(err, ioctlErr); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
