package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// followPlaced makes the figures of several GPUs follow the llama-servers of an instance: each
// holds its size on the GPU that CUDA_VISIBLE_DEVICES names, or evenly on all. It fails the
// test if a GPU has too little VRAM. The returned function ends that.
func (b *gpuMachine) followPlaced(in *instance, sizes map[string]uint64) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			pids := llamaServersOf(in.cmd.Process.Pid)
			b.change(func(box *nvmltest.Box) {
				for i := range box.GPUs {
					box.GPUs[i].Processes, box.GPUs[i].Used = nil, 0
				}
				for _, pid := range pids {
					b.hold(box, pid, sizes)
				}
			})
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond): // as a driver's figures change
			}
		}
	}()
	return func() { close(done); <-ended }
}

// hold gives a llama-server its VRAM.
func (b *gpuMachine) hold(box *nvmltest.Box, pid int, sizes map[string]uint64) {
	size, visible := placedProcess(pid, sizes)
	if size == 0 {
		return // it has ended
	}
	gpus := slices.DeleteFunc([]*nvmltest.GPU{&box.GPUs[0], &box.GPUs[1]}, func(g *nvmltest.GPU) bool { return visible != "" && !strings.Contains(visible, g.UUID) })
	for _, g := range gpus {
		held := size / uint64(len(gpus))
		g.Used += held
		if g.Used > g.Total-g.Reserved {
			b.t.Errorf("%s has too little VRAM for pid %d", g.Name, pid)
			g.Used = g.Total - g.Reserved
		}
		g.Processes = append(g.Processes, nvmltest.Process{PID: pid, Used: held})
	}
}

// placedProcess returns the size of a llama-server's model, and the GPUs that it sees; "" = all.
func placedProcess(pid int, sizes map[string]uint64) (size uint64, visible string) {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	for name, bytes := range sizes {
		if strings.Contains(string(line), "\x00--alias\x00"+name+"\x00") {
			size = bytes
		}
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := strings.CutPrefix(string(entry), "CUDA_VISIBLE_DEVICES="); ok {
			visible = value
		}
	}
	return size, visible
}

// TestSeveralGPUs: models are put on one of two GPUs if they fit there, and split otherwise; no
// call fails, and no GPU is ever over-committed.
func TestSeveralGPUs(t *testing.T) {
	t.Parallel()
	b := newGPUMachine(t, nvmltest.Modern)
	sizes := map[string]uint64{"small0": 11 * gib, "small1": 11 * gib, "small2": 11 * gib, "small3": 11 * gib, "large": 30 * gib}
	servers, routes := "servers:\n", "routes:\n"
	for name, size := range sizes {
		servers += fmt.Sprintf("  %s: {model: %s, load: on_demand, vram: %d}\n", name, demoModel(t), size)
		routes += fmt.Sprintf("  local/%s: {primary: %s, timeout: 5m}\n", name, name)
	}
	in := launch(t, b.env("CUDA_VISIBLE_DEVICES="), "--config", newTestConfig(t, servers+routes).path)
	defer b.followPlaced(in, sizes)()
	run := func(line ...string) string {
		t.Helper()
		code, out := in.run(line...)
		if code != 0 {
			t.Errorf("%q: exit %d\n%s", line, code, out)
		}
		return out
	}
	placed := func() map[string]string {
		t.Helper()
		models, err := in.client.Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, m := range models {
			all[m.Name] = gpusOf(m)
		}
		return all
	}
	for i := range 4 {
		run("load", "small"+strconv.Itoa(i))
	}
	if got := placed(); got["small0"] != "0" || got["small1"] != "0" || got["small2"] != "1" || got["small3"] != "1" || got["large"] != "-" {
		t.Errorf("the models are on %v", got)
	}
	run("load", "large")
	if got := placed(); got["large"] != "0,1" {
		t.Errorf("the models are on %v", got)
	}
	if out := run("models"); !strings.Contains(out, "GPU") || !strings.Contains(out, "0,1") {
		t.Errorf("llmsup models:\n%s", out)
	}

	var callers sync.WaitGroup
	for caller := range 3 {
		callers.Go(func() {
			for i := range 8 {
				name := "small" + strconv.Itoa((caller+i)%4)
				if i == 4 && caller == 0 {
					name = "large"
				}
				if r := in.chat("local/"+name, `,"max_tokens":5`); r.status != 200 || r.backend() != name {
					t.Errorf("%s: %+v", name, r)
				}
			}
		})
	}
	callers.Wait()
	var models []control.Model
	if !eventually(testTimeout, func() bool {
		var err error
		models, err = in.client.Models(t.Context())
		return err == nil && slices.ContainsFunc(models, func(m control.Model) bool {
			return m.Name == "small0" && m.VRAMMeasuredBytes != nil && *m.VRAMMeasuredBytes == 11*gib
		})
	}) {
		t.Errorf("%+v", models)
	}
}
