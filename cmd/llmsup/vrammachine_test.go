package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
	"github.com/llmsup/llmsup/supervisor/process"
)

// vramMachine is a machine with a GPU of 24 GB whose driver gives VRAM to the llama-servers of
// an instance: a quarter at their start, all of it when they have loaded their model. If there
// is too little, the load ends as llama-server's does when CUDA is out of memory.
type vramMachine struct {
	*gpuMachine
	wrapper string // the llama-server to start: it waits for its VRAM, and then is the real one
	model   string // the file that all servers load
	asking  string // a folder with a FIFO for each process that waits, named after its PID

	mu      sync.Mutex
	sizes   map[string]uint64    // VRAM of a model, by server; the others hold vramOfEach
	loads   time.Duration        // how long a load takes
	paused  map[string]bool      // servers whose loads do not end
	engines map[string]bool      // servers that run another program than llama-server
	linger  time.Duration        // for how long the VRAM of an ended process is not free
	foreign []nvmltest.Process   // processes that are not llmsup's
	starts  map[string]int       // processes so far, by server
	refused map[string]int       // those that ran out of memory
	on      map[int]*vramProcess // by PID
	leaving []vramLeaving
	early   int // processes that were started while there was too little VRAM for them
}

// vramProcess is a llama-server that has the GPU open.
type vramProcess struct {
	server string
	engine bool // it is not llama-server, and does not ask for its VRAM
	began  time.Time
	loaded bool
	bytes  uint64 // that it holds
}

// vramLeaving is VRAM of a process that has ended.
type vramLeaving struct {
	bytes uint64
	until time.Time
}

func newVRAMMachine(t *testing.T) *vramMachine {
	t.Helper()
	m := &vramMachine{
		gpuMachine: newGPUMachine(t, nvmltest.Modern), model: demoModel(t), asking: t.TempDir(), wrapper: filepath.Join(t.TempDir(), "llama-server"),
		loads: 200 * time.Millisecond, sizes: map[string]uint64{}, paused: map[string]bool{}, engines: map[string]bool{},
		starts: map[string]int{}, refused: map[string]int{}, on: map[int]*vramProcess{},
	}
	m.gpuMachine.change(func(box *nvmltest.Box) { box.GPUs = box.GPUs[:1] })
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in
*--help* | *--version*) exec %[2]q "$@" ;;
esac
mkfifo %[1]q/$$
read -r answer <%[1]q/$$
if [ "$answer" != yes ]; then
	echo 'ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8148.38 MiB on device 0: cudaMalloc failed: out of memory' >&2
	exit 1
fi
exec %[2]q "$@"
`, m.asking, llamaServer(t))
	if err := os.WriteFile(m.wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return m
}

// config has servers that are loaded on demand, with their assumed VRAM in GiB, and the cloud
// as their fallback, unless it is nil.
func (m *vramMachine) config(cloud *countingCloud, route string, servers map[string]int) string {
	text, routes := "servers:\n", "routes:\n"
	if cloud != nil {
		text = fmt.Sprintf("upstreams:\n  openrouter: {base_url: \"%s/v1\", api_key_env: TEST_OPENROUTER_KEY}\n", cloud.URL) + text
		route = "fallback: openrouter, fallback_model: vendor/chat, resume: true, " + route
	}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		text += fmt.Sprintf("  %s: {model: %s, load: on_demand, vram: %dGiB, gpu: \"0\"}\n", name, m.model, servers[name])
		routes += fmt.Sprintf("  local/%s: {primary: %s, %s}\n", name, name, route)
	}
	return text + routes
}

// launch starts llmsup on the machine, which serves its processes until the test ends.
func (m *vramMachine) launch(config string, env ...string) *instance {
	m.t.Helper()
	return m.launchIn(shortDir(m.t), config, env...)
}

// launchIn is launch with a state directory, which an earlier instance may have used, and the
// path of a configuration.
func (m *vramMachine) launchIn(dir, config string, env ...string) *instance {
	m.t.Helper()
	in := launchIn(m.t, dir, m.env(env...), "--config", config, "--llama-server", m.wrapper)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m.advance(childProcesses(in.cmd.Process.Pid))
			select {
			case <-done:
				return
			case <-in.done:
				return
			case <-time.After(20 * time.Millisecond): // as a driver's figures change
			}
		}
	}()
	// Before the instance is stopped, which was registered earlier: it needs no more VRAM.
	m.t.Cleanup(func() { close(done); <-ended })
	return in
}

// set changes the machine.
func (m *vramMachine) set(edit func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	edit()
}

// change changes what the driver reports besides VRAM and processes.
func (m *vramMachine) change(edit func(*nvmltest.Box)) {
	m.set(func() { m.gpuMachine.change(edit) })
}

// setSizes sets the VRAM of models, in GiB.
func (m *vramMachine) setSizes(inGiB map[string]int) {
	m.set(func() {
		for server, n := range inGiB {
			m.sizes[server] = uint64(n) * gib
		}
	})
}

// advance gives VRAM to the processes that run, and takes that of those that have ended.
func (m *vramMachine) advance(running map[int]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for pid, p := range m.on {
		if !isRunning(pid) { // a process that executes another program has no command line for a moment
			m.leaving = append(m.leaving, vramLeaving{p.bytes, now.Add(m.linger)})
			delete(m.on, pid)
			delete(running, pid)
		}
	}
	m.leaving = slices.DeleteFunc(m.leaving, func(l vramLeaving) bool { return !now.Before(l.until) })
	for pid, server := range running {
		p := m.on[pid]
		if p == nil {
			p = &vramProcess{server: server, engine: m.engines[server], began: now}
			m.on[pid] = p
			m.starts[server]++
			if m.size(server) > m.free() {
				m.early++
			}
		}
		m.load(pid, p, now)
	}
	m.report()
}

// load continues the load of a process. The caller holds the lock.
func (m *vramMachine) load(pid int, p *vramProcess, now time.Time) {
	size := m.size(p.server)
	wanted := size / 4
	switch {
	case p.loaded:
		return
	case now.Sub(p.began) >= m.loads && !m.paused[p.server]:
		wanted = size
	}
	switch fits := wanted <= p.bytes+m.free(); {
	case fits:
		p.bytes = max(p.bytes, wanted)
		p.loaded = wanted == size && (p.engine || m.answer(pid, "yes"))
	case p.engine:
		m.refused[p.server]++
		p.loaded = syscall.Kill(pid, syscall.SIGKILL) == nil
	case m.answer(pid, "no"):
		m.refused[p.server]++
		p.loaded = true // it ends
	}
}

// size returns the VRAM of a model. The caller holds the lock.
func (m *vramMachine) size(server string) uint64 {
	if size, ok := m.sizes[server]; ok {
		return size
	}
	return vramOfEach
}

// answer answers a process that waits for its VRAM. It returns false if it does not wait yet.
func (m *vramMachine) answer(pid int, text string) bool {
	fifo, err := os.OpenFile(filepath.Join(m.asking, itoa(pid)), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENXIO) {
			m.t.Error(err)
		}
		return false
	}
	defer fifo.Close()
	_, err = fifo.WriteString(text + "\n")
	return err == nil
}

// baseVRAM is what the driver itself uses.
const baseVRAM = 18 << 20

// used returns the used VRAM. The caller holds the lock.
func (m *vramMachine) used() uint64 {
	sum := uint64(baseVRAM)
	for _, p := range m.on {
		sum += p.bytes
	}
	for _, p := range m.foreign {
		sum += p.Used
	}
	for _, l := range m.leaving {
		sum += l.bytes
	}
	return sum
}

func (m *vramMachine) free() uint64 {
	g := m.box.GPUs[0]
	return g.Total - g.Reserved - min(m.used(), g.Total-g.Reserved)
}

// report makes the driver report the VRAM. The caller holds the lock.
func (m *vramMachine) report() {
	list := slices.Clone(m.foreign)
	for pid, p := range m.on {
		list = append(list, nvmltest.Process{PID: pid, Used: p.bytes})
	}
	slices.SortFunc(list, func(a, b nvmltest.Process) int { return a.PID - b.PID })
	if g := m.box.GPUs[0]; g.Used == m.used() && slices.Equal(g.Processes, list) {
		return
	}
	m.gpuMachine.change(func(box *nvmltest.Box) { box.GPUs[0].Used, box.GPUs[0].Processes = m.used(), list })
}

// countStarts returns how many processes of a server were started, and how many of them ran
// out of memory.
func (m *vramMachine) countStarts(server string) (starts, refused int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts[server], m.refused[server]
}

// childProcesses returns the processes below llmsup that load a model, and their servers:
// llama-servers, and the engines of tests, whose --name has to be that of their server.
func childProcesses(parent int) map[int]string {
	running := map[int]string{}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, list := range lists {
		raw, _ := os.ReadFile(list) // the thread may have ended
		for field := range strings.FieldsSeq(string(raw)) {
			line, _ := os.ReadFile("/proc/" + field + "/cmdline")
			_, rest, ok := bytes.Cut(line, []byte("\x00--alias\x00"))
			if !ok {
				_, rest, ok = bytes.Cut(line, []byte("\x00--name\x00"))
			}
			server, _, _ := bytes.Cut(rest, []byte{0})
			if pid, err := strconv.Atoi(field); err == nil && ok {
				running[pid] = string(server)
			}
		}
	}
	return running
}

// checkNothingLeft checks that status has each process that this instance has started, and
// that the driver lists no other one of them.
func (in *instance) checkNothingLeft() {
	in.t.Helper()
	var last string
	if !eventually(testTimeout, func() bool {
		s := answerOf(in, in.client.Status)
		reported := map[int]bool{}
		for _, server := range s.Servers {
			reported[server.PID] = true
		}
		last = ""
		for _, pid := range in.startedProcesses() {
			if !reported[pid] {
				last += fmt.Sprintf("pid %d is of no server: %+v\n", pid, s.Servers)
			}
		}
		for _, g := range s.GPUs {
			for _, p := range g.Processes {
				if !reported[p.PID] && p.PID != os.Getpid() {
					last += fmt.Sprintf("the driver lists pid %d, which is of no server: %+v\n", p.PID, s.Servers)
				}
			}
		}
		return last == ""
	}) {
		in.t.Error(last)
	}
}

// startedProcesses returns all processes on the machine that the instance, or an earlier one
// with its state directory, has started.
func (in *instance) startedProcesses() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		line, _ := os.ReadFile(dir + "/cmdline") // the process may have ended
		environ, _ := os.ReadFile(dir + "/environ")
		if bytes.Contains(line, []byte(in.state+"/")) && bytes.Contains(environ, []byte("\x00"+process.ChildVariable+"=")) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// model returns a model as llmsup models shows it.
func (in *instance) model(name string) control.Model {
	in.t.Helper()
	list := answerOf(in, in.client.Models)
	i := slices.IndexFunc(list, func(m control.Model) bool { return m.Name == name })
	if i < 0 {
		in.t.Fatalf("no model %s: %+v", name, list)
	}
	return list[i]
}

// awaitModel waits until a model satisfies ok.
func (in *instance) awaitModel(name, what string, ok func(control.Model) bool) (last control.Model) {
	in.t.Helper()
	if !eventually(testTimeout, func() bool { last = in.model(name); return ok(last) }) {
		in.t.Fatalf("%s is not %s after %s: %+v", name, what, testTimeout, last)
	}
	return last
}
