package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/llmsup/llmsup/cmd/internal/control"
	"github.com/llmsup/llmsup/gpu/nvmltest"
)

const gib = 1 << 30

// gpuMachine is a machine with two fake GPUs, which a test changes while llmsup runs.
type gpuMachine struct {
	t       *testing.T
	figures string
	calls   string
	dir     string // of the library
	box     nvmltest.Box
}

func newGPUMachine(t *testing.T, variant nvmltest.Variant) *gpuMachine {
	t.Helper()
	dir := t.TempDir()
	b := &gpuMachine{t: t, figures: filepath.Join(dir, "figures"), calls: filepath.Join(dir, "calls"), dir: nvmltest.Build(t, variant)}
	b.box = nvmltest.OneGPU()
	second := b.box.GPUs[0]
	second.UUID, second.Name = "GPU-5b1e1f6e-0000-4000-8000-000000000002", "NVIDIA RTX A5000"
	b.box.GPUs = append(b.box.GPUs, second)
	b.box.CallLog = b.calls
	b.change(func(*nvmltest.Box) {})
	return b
}

func (b *gpuMachine) change(edit func(*nvmltest.Box)) {
	b.t.Helper()
	edit(&b.box)
	if err := b.box.Write(b.figures); err != nil {
		b.t.Fatal(err)
	}
}

func (b *gpuMachine) env(more ...string) []string {
	return append(nvmltest.Env(b.dir, b.figures), more...)
}

// samples counts the readings so far.
func (b *gpuMachine) samples() int {
	b.t.Helper()
	raw, err := os.ReadFile(b.calls)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.Count(string(raw), "nvmlDeviceGetUtilizationRates\n") / 2
}

// samplesUntil changes the machine. The returned function checks that a server came to
// its present state after a number of samples that show the change. Samples that were
// taken before the test noticed the state, on a busy machine, are not counted, and three
// more may be taken meanwhile.
func (b *gpuMachine) samplesUntil(edit func(*nvmltest.Box)) (took func(state string, now control.Server, want int)) {
	b.t.Helper()
	before := b.samples()
	b.change(edit)
	after := b.samples()
	return func(state string, now control.Server, want int) {
		b.t.Helper()
		samples, noticed := b.samples(), int(time.Since(now.Since)/time.Second)
		if samples-before < want || samples-after > want+3+noticed {
			b.t.Errorf("%s after %d samples, want %d", state, samples-after, want)
		}
	}
}

// launch runs llmsup on the box, with the counting model as the server "box" and
// the cloud behind it. more goes to the end of its configuration.
func (b *gpuMachine) launch(c *fakeCloud, more string, args ...string) *instance {
	b.t.Helper()
	path := c.serverConfig(b.t, demoModel(b.t), "30s")
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, []byte(more)...), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return launch(b.t, b.env(c.env()...), append([]string{"--config", path}, args...)...)
}

// fastVerdicts makes a verdict take seconds and not half a minute.
const fastVerdicts = "gpu: {good_samples: 4, busy_for: 2s}\n"

func wantBackend(t *testing.T, in *instance, backend, reason string) {
	t.Helper()
	if r := in.chat("local/box", `,"max_tokens":1`); r.status != 200 || r.backend() != backend || r.reason() != reason {
		t.Errorf("a call went to %q (%q), want %q (%q): %+v", r.backend(), r.reason(), backend, reason, r)
	}
}

// TestGPUVerdicts: each reason degrades the server after as many samples as the
// the configuration sets, and calls go to the fallback; it recovers after as many good
// samples.
func TestGPUVerdicts(t *testing.T) {
	for name, tc := range map[string]struct {
		bad    func(*nvmltest.Box, int) // with the pid of llama-server
		reason string
		after  int // samples
	}{
		"vram_pressure": {func(b *nvmltest.Box, _ int) {
			b.GPUs[1].Used = b.GPUs[1].Total - b.GPUs[1].Reserved - 100<<20
			b.GPUs[1].Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 20 * gib}}
		}, "vram_pressure: GPU 1 has 100 MiB of VRAM free, and other processes hold 23.5 GiB more than before (pid " + fmt.Sprint(os.Getpid()), 3},
		"thermal": {func(b *nvmltest.Box, _ int) {
			b.GPUs[0].Throttle, b.GPUs[0].Temperature = 0x40, 97
		}, "thermal: GPU 0 has slowed down because of heat at 97 C", 3},
		"busy_elsewhere": {func(b *nvmltest.Box, _ int) {
			b.GPUs[0].Utilization = 99
			b.GPUs[0].Processes = []nvmltest.Process{{PID: 1, Used: 3 * gib}}
		}, "busy_elsewhere: GPU 0 has been 99 % busy for", 3},
		"ecc": {func(b *nvmltest.Box, _ int) { b.GPUs[0].ECCUncorrected = 2 }, "ecc: GPU 0 had 2 uncorrectable memory errors", 3},
		"on_cpu": {func(b *nvmltest.Box, pid int) {
			b.GPUs[0].Processes = []nvmltest.Process{{PID: pid, Used: 4096}}
		}, "on_cpu: llama-server holds 0 MiB of VRAM, but its weights are 1 MiB: it computes on the CPU", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
			in := b.launch(c, fastVerdicts)
			before := in.awaitReady()
			wantBackend(t, in, "box", "")
			took := b.samplesUntil(func(box *nvmltest.Box) { tc.bad(box, before.PID) })
			now := in.await("degraded", func(s control.Server) bool { return s.State == "degraded" })
			took("degraded", now, tc.after)
			if !strings.Contains(now.Reason, tc.reason) {
				t.Errorf("reason %q, want one with %q", now.Reason, tc.reason)
			}
			wantBackend(t, in, "openrouter", "degraded")
			if code, out := in.run("status"); code != 0 || !strings.Contains(out, tc.reason) {
				t.Errorf("exit %d:\n%s", code, out)
			}
			took = b.samplesUntil(func(box *nvmltest.Box) {
				healthy := nvmltest.OneGPU().GPUs[0]
				for i := range box.GPUs {
					healthy.UUID, healthy.Name, healthy.ECCUncorrected = box.GPUs[i].UUID, box.GPUs[i].Name, 0
					box.GPUs[i] = healthy
				}
				if name == "on_cpu" {
					box.GPUs[0].Processes = []nvmltest.Process{{PID: before.PID, Used: gib}}
				}
			})
			after := in.awaitReady()
			took("ready", after, 4)
			if after.PID != before.PID || after.Restarts != 0 {
				t.Errorf("its process was replaced: %+v", after)
			}
			wantBackend(t, in, "box", "")
		})
	}
}

// TestGPUDefaults: the defaults are 3 bad samples and 10 good ones.
func TestGPUDefaults(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, "")
	in.awaitReady()
	took := b.samplesUntil(func(box *nvmltest.Box) { box.GPUs[0].Throttle = 0x20 })
	took("degraded", in.await("degraded", func(s control.Server) bool { return s.State == "degraded" }), 3)
	took = b.samplesUntil(func(box *nvmltest.Box) { box.GPUs[0].Throttle = 0x04 }) // below its power cap, as GPUs are
	took("ready", in.awaitReady(), 10)
}

// TestGPULostUnderLoad: no call fails, status shows the lost GPU, and the server recovers
// without a restart of llmsup once the GPU is found again.
func TestGPULostUnderLoad(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts, "--gpu", "0")
	before := in.awaitReady()
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for range 3 {
		callers.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				if r := in.chat("local/box", `,"max_tokens":30`); r.status != 200 || r.readErr != nil {
					t.Errorf("%+v", r)
					return
				}
				<-tick.C
			}
		})
	}
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Lost = true })
	now := in.await("waiting for its GPU", func(s control.Server) bool { return s.State == "starting" && s.PID == 0 && s.Reason != "" })
	if !strings.Contains(now.Reason, "waiting for GPU 0 (NVIDIA GeForce RTX 4090), which the driver cannot reach") {
		t.Errorf("reason %q", now.Reason)
	}
	if e := now.LastExit; e == nil || e.Class != "gpu_failed" {
		t.Errorf("last exit %+v", e)
	}
	s, err := in.client.Status(t.Context())
	if err != nil || len(s.GPUs) != 2 || s.GPUs[0].Health != "lost" || s.GPUs[0].MemoryUsedBytes != nil || s.GPUs[1].Health != "ok" {
		t.Errorf("%+v, %v", s.GPUs, err)
	}
	wantBackend(t, in, "openrouter", "starting")
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Lost = false })
	after := in.awaitReady()
	if after.PID == before.PID {
		t.Error("it is the process that had lost its GPU")
	}
	wantBackend(t, in, "box", "")
	stop()
	callers.Wait()
}

// TestXid: llmsup replaces the process after an error that the driver reports, unless
// the error is one of applications.
func TestXid(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts)
	before := in.awaitReady()
	report := func(code uint64) {
		b.change(func(box *nvmltest.Box) {
			g := &box.GPUs[0]
			g.Xids = append(g.Xids, nvmltest.Xid{Seq: uint64(len(g.Xids) + 1), Code: code})
		})
	}
	for _, code := range []uint64{13, 31, 43, 45, 68, 109} {
		report(code)
	}
	from := b.samples()
	in.await("three samples later", func(control.Server) bool { return b.samples() > from+2 })
	if now := in.awaitReady(); now.PID != before.PID {
		t.Fatalf("a program's own error had the server replaced: %+v", now)
	}
	report(79)
	now := in.await("replaced", func(s control.Server) bool { return s.PID != 0 && s.PID != before.PID })
	if now.LastExit == nil || now.LastExit.Class != "gpu_failed" {
		t.Errorf("last exit %+v", now.LastExit)
	}
	in.awaitReady()
	in.awaitLog("GPU 0 reported Xid 79 (it has fallen off the bus)")
}

// TestHangingDriver: status reports it, and neither calls nor status nor the stop wait
// for the driver.
func TestHangingDriver(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts)
	in.awaitReady()
	b.change(func(box *nvmltest.Box) { box.Hang = nvmltest.All })
	unknown := func(s control.Status) bool {
		return len(s.GPUs) == 2 && s.GPUs[0].Health == "unknown" && s.GPUs[0].MemoryFreeBytes == nil
	}
	s := in.awaitStatus("unknown", unknown) // NVML hangs until the test ends, so a status that waits for it has no answer
	if !strings.Contains(s.GPUs[0].Reason, "has not answered for 5s") || !strings.Contains(s.GPUProblem, "has not answered for 5s") {
		t.Errorf("%+v", s)
	}
	wantBackend(t, in, "box", "")
	b.change(func(box *nvmltest.Box) { box.Hang = "" })
	in.awaitStatus("read again", func(s control.Status) bool {
		return s.GPUs[0].Health == "ok" && s.GPUs[0].MemoryFreeBytes != nil
	})
	b.change(func(box *nvmltest.Box) { box.Hang = nvmltest.All })
	in.awaitStatus("unknown again", unknown)
	in.stop() // which fails if it waits for NVML
}

// TestNothingSupported: figures that the driver does not support are null in JSON, absent
// from the metrics and n/a in the status, and never degrade a server.
func TestNothingSupported(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	b.change(func(box *nvmltest.Box) {
		for i := range box.GPUs {
			box.GPUs[i].Unsupported = []string{nvmltest.All}
		}
	})
	in := b.launch(c, "gpu: {bad_samples: 1}\n")
	in.awaitReady()
	from := b.samples()
	in.await("three samples later", func(control.Server) bool { return b.samples() > from+2 })
	if now := in.awaitReady(); now.Reason != "" {
		t.Errorf("%+v", now)
	}
	code, out := in.run("status", "--json")
	for _, name := range []string{"memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "utilization_percent", "temperature_celsius", "power_watts", "processes"} {
		if code != 0 || strings.Count(out, `"`+name+`":null`) != 2 {
			t.Errorf("%s is not null:\n%s", name, out)
		}
	}
	if code, out := in.run("status"); code != 0 || strings.Count(out, "n/a") != 10 {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if metrics := in.get("/metrics"); strings.Contains(metrics, "llmsup_gpu_memory") || strings.Contains(metrics, "llmsup_gpu_temperature") || strings.Count(metrics, "llmsup_gpu_health{") != 8 {
		t.Errorf("metrics:\n%s", metrics)
	}
}

// TestOldDriver: with a library without the newer functions the other figures are read.
func TestOldDriver(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.OldDriver), newFakeCloud(t)
	in := b.launch(c, fastVerdicts)
	in.awaitReady()
	s, err := in.client.Status(t.Context())
	if err != nil || len(s.GPUs) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if g := s.GPUs[0]; g.Health != "ok" || g.MemoryTotalBytes == nil || *g.MemoryTotalBytes != 24564<<20 || g.TemperatureCelsius == nil || *g.TemperatureCelsius != 41 ||
		g.PowerWatts == nil || *g.PowerWatts != 22.5 || g.Slowdown == nil || g.Processes == nil {
		t.Errorf("%+v", g)
	}
	if metrics := in.get("/metrics"); !strings.Contains(metrics, `llmsup_gpu_memory_total_bytes{gpu="0",uuid="GPU-5b1e1f6e-0000-4000-8000-000000000001"} 2.5757`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

// TestDriverLoadedLater: a driver that is loaded after the start of llmsup is used.
func TestDriverLoadedLater(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	b.change(func(box *nvmltest.Box) { box.Init = "DRIVER_NOT_LOADED" })
	in := b.launch(c, fastVerdicts)
	in.awaitReady() // without a word on GPUs
	in.await("without a driver", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		return err == nil && strings.Contains(s.GPUProblem, "the NVIDIA driver is not loaded") && len(s.GPUs) == 0
	})
	b.change(func(box *nvmltest.Box) { box.Init = "" })
	in.await("found", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		return err == nil && s.GPUProblem == "" && len(s.GPUs) == 2 && s.GPUs[1].Health == "ok"
	})
}

// TestFit: a model that does not fit waits, its reason names the processes that hold the
// VRAM, and it starts without a command; meanwhile calls go to the fallback.
func TestFit(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	crowd := func(box *nvmltest.Box) {
		g := &box.GPUs[1]
		g.Used = g.Total - g.Reserved - 50<<20
		g.Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 16 * gib}, {PID: 999_999_999, Used: 3 * gib}}
	}
	b.change(crowd)
	in := b.launch(c, fastVerdicts, "--gpu", "1")
	now := in.await("waiting", func(s control.Server) bool { return strings.Contains(s.Reason, "waiting for VRAM") })
	if now.State != "starting" || now.PID != 0 || !strings.Contains(now.Reason, " free; held by pid "+fmt.Sprint(os.Getpid())) || !strings.Contains(now.Reason, "50 MiB free") {
		t.Errorf("%+v", now)
	}
	if now.VRAM == nil || now.VRAM.NeedBytes <= 50<<20 || now.VRAM.HeldBytes != nil {
		t.Errorf("need %+v", now.VRAM)
	}
	wantBackend(t, in, "openrouter", "starting")
	b.change(func(box *nvmltest.Box) { box.GPUs[1].Used, box.GPUs[1].Processes = 18<<20, nil })
	now = in.awaitReady()
	environ, err := os.ReadFile("/proc/" + itoa(now.PID) + "/environ")
	if want := "CUDA_VISIBLE_DEVICES=" + b.box.GPUs[1].UUID; err != nil || !strings.Contains(string(environ), want) {
		t.Errorf("no %s in the environment of llama-server (%v)", want, err)
	}
	if strings.Count(in.logged(), "llama-server is not started yet") != 1 {
		t.Error("the log does not report the wait once")
	}

	b.change(crowd)
	ignoring := b.launch(c, "gpu: {fit: ignore}\n", "--gpu", "1")
	ignoring.awaitReady()
}

// TestFitIsShared: of two models that do not fit together only one starts.
func TestFitIsShared(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	b.change(func(box *nvmltest.Box) {
		box.GPUs = box.GPUs[:1]
		box.GPUs[0].Used = box.GPUs[0].Total - box.GPUs[0].Reserved - 500<<20 // for one of them
	})
	never := filepath.Join(t.TempDir(), "llama-server") // a llama-server that never finishes loading
	script := "#!/bin/sh\n[ \"$1\" = --help ] && exec " + llamaServer(t) + " --help\nexec sleep 300\n"
	if err := os.WriteFile(never, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	in := b.launch(c, "", "--llama-server", never, "--model", demoModel(t))
	in.await("one loads, one waits", func(control.Server) bool {
		s, err := in.client.Status(t.Context())
		if err != nil {
			return false
		}
		loading, waiting := 0, 0
		for _, server := range s.Servers {
			if server.State == "loading" {
				loading++
			}
			if strings.Contains(server.Reason, "waiting for VRAM") {
				waiting++
			}
		}
		if loading == 2 {
			t.Fatal("both were started")
		}
		return loading == 1 && waiting == 1
	})
}

// TestVRAMIsReleased: the next process waits until most of the VRAM of the last one is
// released, for a limited time.
func TestVRAMIsReleased(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts, "--gpu", "0")
	before := in.awaitReady()
	b.change(func(box *nvmltest.Box) {
		box.GPUs[0].Used = 9 * gib
		box.GPUs[0].Processes = []nvmltest.Process{{PID: before.PID, Used: 8 * gib}}
	})
	in.await("known", func(s control.Server) bool {
		return s.VRAM != nil && s.VRAM.HeldBytes != nil && *s.VRAM.HeldBytes == 8*gib
	})
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Processes = nil }) // gone, and its memory is not yet back
	now := in.await("waiting", func(s control.Server) bool {
		return s.State == "starting" && strings.Contains(s.Reason, "are released")
	})
	if want := "waiting for the VRAM of its last process: 0 MiB of 8.0 GiB are released"; now.Reason != want {
		t.Errorf("reason %q, want %q", now.Reason, want)
	}
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Used = 3 * gib }) // three quarters of it are
	again := in.awaitReady()
	const tooLong = "not all VRAM of the last process has come back, and it is not waited for any longer"
	if strings.Contains(in.logged(), tooLong) {
		t.Error("it was waited for to the end, though most of it was back")
	}
	b.change(func(box *nvmltest.Box) {
		box.GPUs[0].Processes = []nvmltest.Process{{PID: again.PID, Used: 8 * gib}}
	})
	in.await("known again", func(s control.Server) bool { return s.VRAM != nil && s.VRAM.HeldBytes != nil })
	if err := syscall.Kill(again.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	in.await("ready all the same", func(s control.Server) bool { return isReady(s) && s.PID != again.PID })
	in.awaitLog(tooLong)
}

// TestCheckGPUs: check lists the GPUs, the VRAM that a model needs, and what is missing.
func TestCheckGPUs(t *testing.T) {
	b := newGPUMachine(t, nvmltest.Modern)
	model := demoModel(t)
	check := func(args ...string) (int, string) {
		t.Helper()
		t.Setenv("LD_LIBRARY_PATH", "") // which Env adds to
		for _, entry := range b.env() {
			name, value, _ := strings.Cut(entry, "=")
			t.Setenv(name, value)
		}
		return runCommand(t, append([]string{
			"check", "--model", model, "--llama-server", llamaServer(t), "--listen", "127.0.0.1:0",
			"--state-dir", t.TempDir(), "--control-socket", filepath.Join(t.TempDir(), "c.sock"),
		}, args...)...)
	}
	code, out := check()
	for _, want := range []string{
		"ok       GPU driver: 570.86.15, for CUDA up to 12.8\n",
		"ok       GPU 0: NVIDIA GeForce RTX 4090, GPU-5b1e1f6e-0000-4000-8000-000000000001, 23.6 GiB of 24.0 GiB free\n",
		"ok       server demo: VRAM needed: ", "GiB free\n",
		"warning  GPU 0: llama-server does not use it: it has loaded no backend for GPUs; ",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, out)
		}
	}
	b.change(func(box *nvmltest.Box) {
		for i := range box.GPUs {
			box.GPUs[i].Used = box.GPUs[i].Total - box.GPUs[i].Reserved - 1<<20
		}
		box.GPUs[0].Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 20 * gib}}
	})
	if code, out := check(); code != 0 || !strings.Contains(out, "2 MiB free: it would wait for more; held by pid "+fmt.Sprint(os.Getpid())) {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out := check("--gpu", "7"); code != 1 || !strings.Contains(out, "there is no GPU 7; found: 0 (NVIDIA GeForce RTX 4090, GPU-") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	b.change(func(box *nvmltest.Box) { box.Init = "LIB_RM_VERSION_MISMATCH" })
	if code, out := check(); code != 0 || !strings.Contains(out, "warning  GPU: cannot read any: the NVIDIA driver's library and its kernel module are of different versions") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	b.dir = t.TempDir() // no library at all
	if code, out := check(); code != 0 || !strings.Contains(out, "no libnvidia-ml.so.1: the NVIDIA driver is not installed, or not in this container\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	if code, out := check("--gpu", "none"); code != 0 || !strings.Contains(out, "ok       GPU: disabled\n") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestTwoOnOneGPU: the VRAM and the load of one server of llmsup do not degrade another
// one on the same GPU.
func TestTwoOnOneGPU(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	b.change(func(box *nvmltest.Box) { box.GPUs = box.GPUs[:1] })
	in := b.launch(c, "gpu: {good_samples: 4, busy_for: 1s}\n", "--model", demoModel(t))
	one, two := in.awaitServer(0, "ready", isReady), in.awaitServer(1, "ready", isReady)
	from := b.samples()
	b.change(func(box *nvmltest.Box) {
		g := &box.GPUs[0]
		g.Used = g.Total - g.Reserved - 100<<20
		g.Processes = []nvmltest.Process{{PID: one.PID, Used: g.Used - 18<<20 - 11*gib}, {PID: two.PID, Used: 11 * gib}}
	})
	in.await("samples later", func(control.Server) bool { return (b.samples()-from)*2 >= 8 }) // each has one GPU alone
	for i := range 2 {
		if now := in.awaitServer(i, "there", func(control.Server) bool { return true }); now.State != "ready" {
			t.Errorf("%s is %s: %s", now.Name, now.State, now.Reason)
		}
	}
}

// TestReservationIsReleased: the VRAM that was reserved for a server that fails to start
// is available to others.
func TestReservationIsReleased(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	b.change(func(box *nvmltest.Box) {
		box.GPUs = box.GPUs[:1]
		box.GPUs[0].Used = box.GPUs[0].Total - box.GPUs[0].Reserved - 500<<20 // for one of them
	})
	model := demoModel(t)
	path := newTestConfig(t, "servers:\n  a: {model: "+model+", args: [--nonsense]}\n  b: {model: "+model+"}\n").path
	in := launch(t, b.env(c.env()...), "--config", path)
	in.awaitServer(0, "failed", func(s control.Server) bool { return s.State == "failed" })
	in.awaitServer(1, "ready", isReady)
}

// TestIndexIsPinned: an index means the same GPU for as long as llmsup runs, even if the
// driver renumbers the GPUs because one is lost.
func TestIndexIsPinned(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	model := demoModel(t)
	path := newTestConfig(t, "servers:\n  a: {model: "+model+", gpu: 0}\n  b: {model: "+model+", gpu: 1}\ngpu: {good_samples: 4}\n").path
	in := launch(t, b.env(c.env()...), "--config", path)
	in.awaitServer(0, "ready", isReady)
	before := in.awaitServer(1, "ready", isReady)
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Lost = true })
	in.awaitServer(0, "waiting", func(s control.Server) bool { return s.State == "starting" && strings.Contains(s.Reason, "RTX 4090") })
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Missing = true })
	from := b.samples()
	in.await("samples later", func(control.Server) bool { return b.samples() > from+2 })
	if now := in.awaitServer(0, "waiting", func(s control.Server) bool { return s.State == "starting" }); !strings.Contains(now.Reason, "waiting for GPU 0 (NVIDIA GeForce RTX 4090)") {
		t.Errorf("reason %q", now.Reason)
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	in.awaitServer(1, "ready again", func(s control.Server) bool { return isReady(s) && s.PID != before.PID })
	b.change(func(box *nvmltest.Box) { box.GPUs[1].Throttle = 0x40 })
	in.awaitServer(1, "degraded", func(s control.Server) bool { return s.State == "degraded" })
}

// TestConditionsExpire: a condition that was found before the driver hung does not
// degrade the server for as long as the driver hangs.
func TestConditionsExpire(t *testing.T) {
	t.Parallel()
	b, c := newGPUMachine(t, nvmltest.Modern), newFakeCloud(t)
	in := b.launch(c, fastVerdicts)
	in.awaitReady()
	b.change(func(box *nvmltest.Box) { box.GPUs[0].Throttle = 0x40 })
	in.await("degraded", func(s control.Server) bool { return s.State == "degraded" })
	b.change(func(box *nvmltest.Box) { box.Hang = nvmltest.All })
	in.awaitReady()
	wantBackend(t, in, "box", "")
}

// TestContextReduced: a server with less context than configured is degraded, whatever
// the state of the GPU.
func TestContextReduced(t *testing.T) {
	t.Parallel()
	wrapper := filepath.Join(t.TempDir(), "llama-server") // as --fit would
	script := "#!/bin/sh\nfor a; do shift; [ \"$a\" = 8192 ] && a=2048; set -- \"$@\" \"$a\"; done\nexec " + llamaServer(t) + " \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	in := launch(t, nil, "--llama-server", wrapper, "--model", demoModel(t), "--gpu", "none")
	now := in.await("degraded", func(s control.Server) bool { return s.State == "degraded" })
	if !strings.Contains(now.Reason, "context_reduced: llama-server has 2048 tokens of context instead of the") {
		t.Errorf("reason %q", now.Reason)
	}
	if r := in.chat("local", `,"max_tokens":1`); r.status != 200 {
		t.Errorf("without a fallback it has to answer: %+v", r)
	}
}
