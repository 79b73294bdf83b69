package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRecorded reports on events that go test 1.26 has printed, for tests made to
// end in each way there is. A file has the events, and what the report is.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			events, want, found := strings.Cut(string(raw), "-- report --\n")
			var out bytes.Buffer
			if err := newReport(&out, time.Now()).run(strings.NewReader(events)); err != nil || !found {
				t.Fatalf("%v, %t", err, found)
			}
			if got := out.String(); got != want {
				t.Errorf("the report is\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestAllOutput: with -v what tests print is passed on as it is.
func TestAllOutput(t *testing.T) {
	raw, err := os.ReadFile("testdata/passing.txt")
	if err != nil {
		t.Fatal(err)
	}
	events, _, _ := strings.Cut(string(raw), "-- report --\n")
	want := ""
	for line := range strings.Lines(events) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		want += e.Output
	}
	var out bytes.Buffer
	r := newReport(&out, time.Now())
	r.verbose = true
	if err := r.run(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, want) || !strings.Contains(want, "log of A") {
		t.Errorf("the report is\n%s\nwant one that begins with\n%s", got, want)
	}
}

func TestWantsAll(t *testing.T) {
	for args, want := range map[string]bool{
		"": false, "./router -run X": false, "-v ./...": true, "-test.v": true, "--v": true, "-v=false": false, "-v=true": true,
		"-bench .": true, "-fuzz=FuzzX": true, "-list .": true, "./... -args -v": false, "-race -count=1": false, "-vet=off": false,
	} {
		if got := wantsAll(strings.Fields(args)); got != want {
			t.Errorf("%q: %t, want %t", args, got, want)
		}
	}
}

// TestLines: what go test prints beside its events, and what a test prints when
// it has ended.
func TestLines(t *testing.T) {
	const start = `{"Action":"start","Package":"m/a"}` + "\n"
	for name, tc := range map[string]struct{ events, want string }{
		"no event":    {"go: downloading x\n{}\n[1]\n3\n", "go: downloading x\n{}\n[1]\n3\n"},
		"no new line": {"flag provided but not defined", "flag provided but not defined"},
		"a test that goes on printing": {start + `{"Action":"run","Package":"m/a","Test":"TestA"}
{"Action":"pass","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"late"}
{"Action":"output","Package":"m/a","Output":"FAIL\tm/a\t1s\n"}
{"Action":"fail","Package":"m/a"}
`, "failed: a\nlate\nFAIL\tm/a\t1s\n"},
		"what is no step": {start + `{"Action":"run","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUNNING\n"}
{"Action":"fail","Package":"m/a","Test":"TestA"}
`, "failed: a TestA\n=== RUNNING\n"},
		"coverage": {start + `{"Action":"output","Package":"m/a","Output":"coverage: 7% of statements\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t1s\tcoverage: 7% of statements\n"}
{"Action":"pass","Package":"m/a"}
`, "ok  \tm/a\t1s\tcoverage: 7% of statements\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			r := newReport(&out, time.Now())
			r.module = "m"
			for line := range strings.Lines(tc.events) {
				r.line([]byte(line))
			}
			if got := out.String(); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// printed is what a report has printed since it was last taken.
type printed struct {
	mu   sync.Mutex
	text string
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text += string(b)
	return len(b), nil
}

func (p *printed) take() (text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, p.text = p.text, ""
	return text
}

// TestProgress: every 20 seconds it says what runs.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events, into := io.Pipe()
		out := &printed{}
		r := newReport(out, time.Now())
		r.module = "m"
		done := make(chan error)
		go func() { done <- r.run(events) }()
		send := func(action, pkg, test string) {
			line, _ := json.Marshal(event{Time: time.Now(), Action: action, Package: pkg, Test: test})
			_, _ = into.Write(append(line, '\n'))
		}
		for step, want := range []string{
			"",
			"[20s] 0 passed, 0 failed, 0 skipped; no test is running: go builds the next packages\n",
			"[40s] 1 passed, 0 failed, 0 skipped; running:\n    a (20s): TestB 20s\n    b (1s): TestD 1s, TestC/x 0s, TestE 0s, 2 more\n",
			"[1m0s] 2 passed, 0 failed, 0 skipped; running:\n    b (21s): TestC/x 20s, TestE 20s, TestF 20s, 1 more\n",
		} {
			synctest.Wait()
			if got := out.take(); got != want {
				t.Errorf("after %d s: %q, want %q", 20*step, got, want)
			}
			switch step {
			case 1:
				send("start", "m/a", "")
				send("run", "m/a", "TestA")
				send("pass", "m/a", "TestA")
				send("run", "m/a", "TestB")
				time.Sleep(19 * time.Second)
				send("start", "m/b", "")
				send("run", "m/b", "TestC")
				send("run", "m/b", "TestD")
				send("run", "m/b", "TestWaits")
				send("pause", "m/b", "TestWaits")
				time.Sleep(time.Second - time.Nanosecond)
				for _, test := range []string{"TestC/x", "TestE", "TestF", "TestG"} {
					send("run", "m/b", test)
				}
				time.Sleep(time.Nanosecond)
				continue
			case 2:
				send("pass", "m/b", "TestD")
				send("pass", "m/a", "")
			}
			time.Sleep(20 * time.Second)
		}
		_ = into.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBrokenInput(t *testing.T) {
	events, into := io.Pipe()
	_ = into.CloseWithError(io.ErrUnexpectedEOF)
	if err := newReport(io.Discard, time.Now()).run(events); err == nil {
		t.Error("events that could not be read are no error")
	}
}
