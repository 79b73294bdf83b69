package nvmltest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// gcc compiles a C file of testdata and returns the program.
func gcc(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	out, err := exec.Command("gcc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread", "-Ilib", "-o", program, filepath.Join("testdata", name)).CombinedOutput()
	if err != nil {
		t.Fatalf("gcc %s: %v\n%s", name, err, out)
	}
	return program
}

// client is a program that has loaded the library (testdata/ask.c).
type client struct {
	t       *testing.T
	figures string // the file
	in      io.Writer
	out     chan string
}

// startClient starts the program with a box.
func startClient(t *testing.T, variant Variant, box Box) *client {
	t.Helper()
	a := &client{t: t, figures: filepath.Join(t.TempDir(), "figures"), out: make(chan string, 100)}
	a.setBox(box)
	child := exec.Command(gcc(t, "ask.c"))
	child.Env = append(os.Environ(), Env(Build(t, variant), a.figures)...)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	a.in = in
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			a.out <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		<-done
		if err := child.Wait(); err != nil {
			t.Errorf("the client: %v", err)
		}
	})
	return a
}

func (a *client) setBox(box Box) {
	a.t.Helper()
	if err := box.Write(a.figures); err != nil {
		a.t.Fatal(err)
	}
}

func (a *client) send(question string) {
	a.t.Helper()
	if _, err := io.WriteString(a.in, question+"\n"); err != nil {
		a.t.Fatal(err)
	}
}

func (a *client) receive() string {
	a.t.Helper()
	select {
	case answer := <-a.out:
		return answer
	case <-time.After(20 * time.Second):
		a.t.Fatal("no answer in 20 s")
		return ""
	}
}

// expect sends a question and checks the answer.
func (a *client) expect(question, want string) {
	a.t.Helper()
	a.send(question)
	if got := a.receive(); got != want {
		a.t.Errorf("%s: %q, want %q", question, got, want)
	}
}

// startInitialized initializes the library and gets the first GPU's handle.
func startInitialized(t *testing.T, variant Variant, box Box) *client {
	t.Helper()
	a := startClient(t, variant, box)
	a.expect("plain nvmlInit_v2", "0")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 0", "0")
	return a
}
