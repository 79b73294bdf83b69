package enginetest

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// engine is the state of one engine.
type engine struct {
	name    string
	prefix  string // its base path
	access  bool   // log each request, as Python's servers do
	chunk   time.Duration
	work    time.Duration // of each call
	serial  chan struct{} // holds a token for each call at once; nil = no limit
	proceed chan struct{} // receives when a speech that waits may continue

	ready   atomic.Bool
	asleep  atomic.Bool
	hangs   atomic.Bool // it answers nothing any more
	running atomic.Int64
	most    atomic.Int64
}

// spun counts what an engine that hangs computes.
var spun atomic.Int64

// Main is the program.
func Main() {
	var (
		host     = flag.String("host", "127.0.0.1", "")
		port     = flag.String("port", os.Getenv("ENGINE_PORT"), "")
		start    = flag.Duration("start", 0, "time until it is ready")
		late     = flag.Bool("late", false, "listen only when it is ready")
		fail     = flag.String("fail", "", "print this line and exit with 1 instead of getting ready")
		prefix   = flag.String("prefix", "/v1", "base path")
		name     = flag.String("name", "engine", "shown in answers")
		access   = flag.Bool("access-log", false, "log requests")
		chunk    = flag.Duration("chunk", 10*time.Millisecond, "pause between the pieces of an answer")
		work     = flag.Duration("work", 0, "time that a call takes")
		parallel = flag.Int("parallel", 0, "calls at once; 0 = any number")
		fork     = flag.String("fork", "", "start a worker: group, or session for one in a session of its own")
		stubborn = flag.Bool("stubborn", false, "ignore SIGTERM")
	)
	flag.Parse()
	e := &engine{name: *name, prefix: *prefix, access: *access, chunk: *chunk, work: *work, proceed: make(chan struct{})}
	if *parallel > 0 {
		e.serial = make(chan struct{}, *parallel)
	}
	fmt.Fprintln(os.Stderr, "engine: loading")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		for range stop {
			if !*stubborn {
				os.Exit(0)
			}
		}
	}()
	if *fork != "" {
		forkWorker(*fork == "session")
	}
	load := func() {
		time.Sleep(*start)
		if *fail != "" {
			fmt.Fprintln(os.Stderr, *fail)
			os.Exit(1)
		}
		e.ready.Store(true)
		fmt.Fprintln(os.Stderr, "engine: ready")
	}
	if *late {
		load()
	} else {
		go load()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	fmt.Fprintln(os.Stderr, "engine:", server.Serve(l))
}

// forkWorker starts a process that runs until it is killed.
func forkWorker(session bool) {
	p, err := os.StartProcess("/bin/sleep", []string{"test-worker", "600"}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: session},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		return
	}
	fmt.Fprintln(os.Stderr, "engine: worker", p.Pid)
}

// ServeHTTP serves the engine's API.
func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if e.hangs.Load() {
		select {}
	}
	if e.access {
		fmt.Fprintf(os.Stderr, "INFO:     %s - \"%s %s HTTP/1.1\"\n", r.RemoteAddr, r.Method, r.URL.Path)
	}
	switch {
	case r.URL.Path == "/health":
		if !e.ready.Load() {
			fail(w, http.StatusServiceUnavailable, "loading")
		}
	case strings.HasPrefix(r.URL.Path, "/test/"):
		e.control(w, r)
	case r.URL.Path == "/sleep":
		e.asleep.Store(true)
	case r.URL.Path == "/wake_up":
		e.asleep.Store(false)
	case !e.ready.Load() || e.asleep.Load():
		fail(w, http.StatusServiceUnavailable, "not loaded")
	default:
		path, ok := strings.CutPrefix(r.URL.Path, e.prefix)
		if answer := answers[path]; ok && answer != nil {
			e.call(w, r, answer)
			return
		}
		fail(w, http.StatusNotFound, "Not Found")
	}
}

// call answers a call, and shows in the headers what it received.
func (e *engine) call(w http.ResponseWriter, r *http.Request, answer func(*engine, http.ResponseWriter, *http.Request)) {
	if e.serial != nil {
		e.serial <- struct{}{}
		defer func() { <-e.serial }()
	}
	now := e.running.Add(1)
	defer e.running.Add(-1)
	for most := e.most.Load(); now > most && !e.most.CompareAndSwap(most, now); most = e.most.Load() {
	}
	w.Header().Set("X-Engine-Authorization", r.Header.Get("Authorization"))
	w.Header().Set("X-Engine-Name", e.name)
	select {
	case <-time.After(e.work):
	case <-r.Context().Done():
		return
	}
	answer(e, w, r)
}

// control changes what the engine does, for a test that knows its port.
func (e *engine) control(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/test/most": // calls at once
		fmt.Fprint(w, e.most.Load())
	case "/test/asleep":
		fmt.Fprint(w, e.asleep.Load())
	case "/test/continue":
		select {
		case e.proceed <- struct{}{}:
		case <-r.Context().Done():
		}
	case "/test/exit":
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		fmt.Fprintln(os.Stderr, r.URL.Query().Get("line"))
		os.Exit(code)
	case "/test/hang":
		e.hangs.Store(true)
	case "/test/spin": // it answers nothing, and computes
		e.hangs.Store(true)
		go func() {
			for n := 0; ; n++ {
				spun.Store(int64(n))
			}
		}()
	}
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "engine", "code": status}})
}
