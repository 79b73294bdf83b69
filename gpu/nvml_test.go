//go:build linux && cgo

package gpu

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/llmsup/llmsup/gpu/nvmltest"
)

// twoGPUs is a box of which all values differ.
func twoGPUs() nvmltest.Box {
	box := nvmltest.OneGPU()
	box.GPUs = append(box.GPUs, nvmltest.GPU{
		UUID: second, Name: "NVIDIA L4",
		Total: 23034 << 20, Used: 11 << 30, Reserved: 530 << 20,
		Utilization: 97, MemoryUtilization: 43, Temperature: 71,
		PowerMilliwatts: 68_125, PowerLimitMilliwatts: 72_000,
		Throttle: 0x44, ECCUncorrected: 3, PCIeReplay: 17,
		Processes: []nvmltest.Process{
			{PID: 4_000_002, Used: 2 << 30},
			{PID: 4_000_001, Used: 1 << 30},
			{PID: 4_000_001, Used: 3 << 30, Graphics: true},
			{PID: 4_000_003, Used: nvmltest.NotAvailable, Graphics: true},
		},
	})
	return box
}

func wantTwoGPUs() []GPU {
	return []GPU{{
		Index: 0, UUID: "GPU-5b1e1f6e-0000-4000-8000-000000000001", Name: "NVIDIA GeForce RTX 4090",
		MemoryTotal: new(uint64(24564 << 20)), MemoryUsed: new(uint64(18 << 20)), MemoryFree: new(uint64((24564 - 18 - 410) << 20)),
		Utilization: new(0), MemoryUtilization: new(0), Temperature: new(41), Power: new(22.5), PowerLimit: new(450.0),
		Slowdown: new(Slowdown(0)), ECCUncorrected: new(uint64(0)), PCIeReplays: new(uint64(0)),
		Processes: []Process{}, ProcessesKnown: true,
	}, {
		Index: 1, UUID: second, Name: "NVIDIA L4",
		MemoryTotal: new(uint64(23034 << 20)), MemoryUsed: new(uint64(11 << 30)), MemoryFree: new(uint64((23034 - 530 - 11<<10) << 20)),
		Utilization: new(97), MemoryUtilization: new(43), Temperature: new(71), Power: new(68.125), PowerLimit: new(72.0),
		Slowdown: new(HardwareThermal | 0x04), ECCUncorrected: new(uint64(3)), PCIeReplays: new(uint64(17)),
		Processes:      []Process{{4_000_001, "", new(uint64(3 << 30))}, {4_000_002, "", new(uint64(2 << 30))}, {4_000_003, "", nil}},
		ProcessesKnown: true,
	}}
}

// same compares values, not pointers.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		text := func(v any) []byte { raw, _ := json.Marshal(v); return raw }
		t.Errorf("%s:\n got %s\nwant %s", what, text(got), text(want))
	}
}

func TestFigures(t *testing.T) {
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), twoGPUs())
	reply := r.at(0)
	if reply.Driver != "570.86.15" || reply.CUDA != "12.8" || reply.Problem != "" {
		t.Errorf("driver %q, CUDA %q, problem %q", reply.Driver, reply.CUDA, reply.Problem)
	}
	same(t, "GPUs", reply.GPUs, wantTwoGPUs())

	box := twoGPUs() // the next sample has the new values
	box.GPUs[0].Temperature = 55
	box.GPUs[1].Processes = []nvmltest.Process{{PID: os.Getpid(), Used: 5 << 20}}
	r.setBox(box)
	reply = r.at(1)
	if got := reply.GPUs[0].Temperature; got == nil || *got != 55 {
		t.Errorf("temperature %v, want 55", got)
	}
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "processes", reply.GPUs[1].Processes, []Process{{os.Getpid(), strings.TrimSpace(string(comm)), new(uint64(5 << 20))}})
}

// TestOldDriver reads a library without the functions that were added after 2018.
func TestOldDriver(t *testing.T) {
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.OldDriver), twoGPUs())
	reply := r.at(0)
	if reply.Driver != "570.86.15" || reply.CUDA != "12.8" || reply.Problem != "" {
		t.Errorf("driver %q, CUDA %q, problem %q", reply.Driver, reply.CUDA, reply.Problem)
	}
	want := wantTwoGPUs()
	*want[0].MemoryUsed += 410 << 20 // the older function includes the reserved memory
	*want[1].MemoryUsed += 530 << 20
	same(t, "GPUs", reply.GPUs, want)
	box := twoGPUs()
	box.GPUs[0].Xids = []nvmltest.Xid{{Seq: 1, Code: 79}}
	r.setBox(box)
	same(t, "Xids", r.at(1).GPUs[0].Xids, []uint64{79})
}

func TestNotSupported(t *testing.T) {
	figures := []string{
		"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV",
		"nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons",
		"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetPcieReplayCounter", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceRegisterEvents",
	}
	box := twoGPUs()
	box.GPUs[0].Unsupported = []string{nvmltest.All}
	box.GPUs[1].Unsupported = figures
	for _, variant := range []nvmltest.Variant{nvmltest.Modern, nvmltest.OldDriver} {
		reply := startReader(t, "rounds", nvmltest.Build(t, variant), box).at(0)
		if reply.Problem != "" {
			t.Errorf("%s: problem %q", variant, reply.Problem)
		}
		same(t, variant.String(), reply.GPUs, []GPU{{Index: 0}, {Index: 1, UUID: second, Name: "NVIDIA L4"}})
	}

	// Each value is known independently.
	box = twoGPUs()
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
	r.at(0)
	for i, c := range map[int]struct {
		function string
		forget   func(*GPU)
	}{
		1: {"nvmlDeviceGetMemoryInfo", func(g *GPU) { g.MemoryTotal, g.MemoryUsed, g.MemoryFree = nil, nil, nil }},
		2: {"nvmlDeviceGetUtilizationRates", func(g *GPU) { g.Utilization, g.MemoryUtilization = nil, nil }},
		3: {"nvmlDeviceGetTemperature", func(g *GPU) { g.Temperature = nil }},
		4: {"nvmlDeviceGetPowerUsage", func(g *GPU) { g.Power = nil }},
		5: {"nvmlDeviceGetEnforcedPowerLimit", func(g *GPU) { g.PowerLimit = nil }},
		6: {"nvmlDeviceGetCurrentClocksEventReasons", func(g *GPU) { g.Slowdown = nil }},
		7: {"nvmlDeviceGetTotalEccErrors", func(g *GPU) { g.ECCUncorrected = nil }},
		8: {"nvmlDeviceGetPcieReplayCounter", func(g *GPU) { g.PCIeReplays = nil }},
		9: {"nvmlDeviceGetComputeRunningProcesses", func(g *GPU) { g.Processes, g.ProcessesKnown = nil, false }},
	} {
		box.GPUs[1].Unsupported = []string{c.function}
		r.setBox(box)
		want := wantTwoGPUs()
		c.forget(&want[1])
		same(t, c.function, r.at(i).GPUs, want)
	}
	box.GPUs[1].Unsupported = []string{"nvmlDeviceGetGraphicsRunningProcesses"} // as on compute-only cards
	r.setBox(box)
	want := wantTwoGPUs()
	want[1].Processes = []Process{{4_000_001, "", new(uint64(1 << 30))}, {4_000_002, "", new(uint64(2 << 30))}}
	same(t, "no graphics", r.at(10).GPUs, want)
}

func TestNoLibrary(t *testing.T) {
	lib := t.TempDir() // with a file that is no library, so that a real one is not found
	if err := os.WriteFile(filepath.Join(lib, "libnvidia-ml.so.1"), []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	reply := startReader(t, "rounds", lib, nvmltest.Box{}).at(0)
	if want := "no libnvidia-ml.so.1: the NVIDIA driver is not installed, or not in this container"; !strings.Contains(reply.Problem, want) {
		t.Errorf("problem %q, want %q in it", reply.Problem, want)
	}
	if len(reply.GPUs) > 0 {
		t.Errorf("GPUs %+v, want none", reply.GPUs)
	}
}

// TestForeignLibrary checks a library of the right name without the functions.
func TestForeignLibrary(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a stub":       {"int nvmlInit_v2(void) { return 0; }", "has no nvmlShutdown"},
		"next to none": {"int nvmlInit_v2(void) { return 0; } int nvmlShutdown(void) { return 0; }", "has no nvmlDeviceGetCount"},
	} {
		t.Run(name, func(t *testing.T) {
			lib := t.TempDir()
			compile := exec.Command("gcc", "-x", "c", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", filepath.Join(lib, "libnvidia-ml.so.1"), "-")
			compile.Stdin = strings.NewReader(c.text)
			if out, err := compile.CombinedOutput(); err != nil {
				t.Fatalf("gcc: %v\n%s", err, out)
			}
			if reply := startReader(t, "rounds", lib, nvmltest.Box{}).at(0); !strings.Contains(reply.Problem, c.want) {
				t.Errorf("problem %q, want %q in it", reply.Problem, c.want)
			}
		})
	}
}

func TestInitErrors(t *testing.T) {
	for name, want := range map[string]string{
		"DRIVER_NOT_LOADED":       "the NVIDIA driver is not loaded: try modprobe nvidia",
		"LIB_RM_VERSION_MISMATCH": "library and its kernel module are of different versions",
		"NO_PERMISSION":           "check the permissions of /dev/nvidia*",
		"UNKNOWN":                 "the NVIDIA driver's library does not start: ",
	} {
		t.Run(name, func(t *testing.T) {
			box := twoGPUs()
			box.Init = name
			r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
			if reply := r.at(0); !strings.Contains(reply.Problem, want) || len(reply.GPUs) > 0 {
				t.Errorf("problem %q with GPUs %+v, want %q in it, and none", reply.Problem, reply.GPUs, want)
			}
			r.setBox(twoGPUs())
			reply := r.at(1)
			if reply.Problem != "" {
				t.Errorf("problem %q after it was solved", reply.Problem)
			}
			same(t, "GPUs", reply.GPUs, wantTwoGPUs())
		})
	}
}

func TestXidsOnce(t *testing.T) {
	box := twoGPUs()
	box.GPUs[0].Xids = []nvmltest.Xid{{Seq: 1, Code: 62}} // before llmsup
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
	want := func(second int, zero, one []uint64) {
		t.Helper()
		reply := r.at(second)
		same(t, fmt.Sprintf("Xids of GPU 0 at %d s", second), reply.GPUs[0].Xids, zero)
		same(t, fmt.Sprintf("Xids of GPU 1 at %d s", second), reply.GPUs[1].Xids, one)
	}
	want(0, nil, nil)
	box.GPUs[1].Xids = []nvmltest.Xid{{Seq: 1, Code: 13}, {Seq: 2, Code: 74}}
	r.setBox(box)
	want(1, nil, []uint64{13, 74})
	want(2, nil, nil)
	box.GPUs[0].Xids = append(box.GPUs[0].Xids, nvmltest.Xid{Seq: 2, Code: 48})
	box.GPUs[1].Xids = append(box.GPUs[1].Xids, nvmltest.Xid{Seq: 3, Code: 74})
	r.setBox(box)
	want(3, []uint64{48}, []uint64{74})
	want(4, nil, nil)
	for i := range uint64(60) { // a sample does not wait until they end
		box.GPUs[0].Xids = append(box.GPUs[0].Xids, nvmltest.Xid{Seq: 3 + i, Code: 31})
	}
	r.setBox(box)
	if got := len(r.at(5).GPUs[0].Xids); got != 60 {
		t.Errorf("%d Xids, want 60", got)
	}
}

// TestXidsBetweenSessions checks that an Xid between a sample and the end of its session
// is in the next sample. Sessions are reopened while another GPU is lost.
func TestXidsBetweenSessions(t *testing.T) {
	box := twoGPUs()
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
	r.at(0)
	box.GPUs[1].Lost = true
	r.setBox(box)
	r.at(1)
	box.GPUs[0].Xids = []nvmltest.Xid{{Seq: 1, Code: 74}, {Seq: 2, Code: 13}}
	r.setBox(box)
	same(t, "Xids in the next session", r.at(2).GPUs[0].Xids, []uint64{74, 13})
	same(t, "Xids later", r.at(3).GPUs[0].Xids, []uint64(nil))
}

// TestLostAndFound loses the second GPU in a session, and finds it in another.
func TestLostAndFound(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls")
	begun := func() int {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "nvmlInit")
	}
	for name, lose := range map[string]func(*nvmltest.GPU){
		"lost":    func(g *nvmltest.GPU) { g.Lost = true },
		"missing": func(g *nvmltest.GPU) { g.Missing = true },
	} {
		t.Run(name, func(t *testing.T) {
			box := twoGPUs()
			box.CallLog = log
			r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
			r.at(0)
			before := begun()
			lose(&box.GPUs[1])
			r.setBox(box)
			want := wantTwoGPUs()
			want[1] = GPU{Index: 1, UUID: second, Name: "NVIDIA L4", Lost: true}
			opens := map[int]bool{2: true, 4: true, 8: true, 16: true, 31: true, 46: true} // 1, 2, 4, 8, 15, 15 s later
			for second := 1; second <= 50; second++ {
				same(t, fmt.Sprintf("GPUs at %d s", second), r.at(second).GPUs, want)
				if now := begun(); now > before != opens[second] {
					t.Errorf("at %d s the session was opened again: %v, want %v", second, now > before, opens[second])
				} else {
					before = now
				}
			}
			r.setBox(twoGPUs())
			if reply := r.at(61); reply.Problem != "" {
				t.Errorf("problem %q", reply.Problem)
			} else {
				same(t, "GPUs when it is found", reply.GPUs, wantTwoGPUs())
			}
			same(t, "GPUs later", r.at(62).GPUs, wantTwoGPUs())
			r.setBox(box) // the pause is short again
			before = begun()
			r.at(63)
			r.at(64)
			if begun() != before+1 {
				t.Error("a second after it was lost again, no session was opened")
			}
		})
	}
}

// TestFirstIsMissing checks a driver that renumbers the remaining GPUs.
func TestFirstIsMissing(t *testing.T) {
	box := twoGPUs()
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
	r.at(0)
	box.GPUs[0].Missing = true
	r.setBox(box)
	r.at(1)
	want := wantTwoGPUs()
	want[0] = GPU{Index: 0, UUID: want[0].UUID, Name: want[0].Name, Lost: true}
	want[1].Index = 0
	want[0], want[1] = want[1], want[0]
	same(t, "GPUs", r.at(2).GPUs, want)
	r.setBox(twoGPUs())
	same(t, "GPUs when it is found", r.at(4).GPUs, wantTwoGPUs())
}

// TestLostBefore checks a GPU that was lost before llmsup started: its UUID is unknown
// until it is found.
func TestLostBefore(t *testing.T) {
	box := twoGPUs()
	box.GPUs[1].Lost = true
	r := startReader(t, "rounds", nvmltest.Build(t, nvmltest.Modern), box)
	want := wantTwoGPUs()
	want[1] = GPU{Index: 1, Lost: true}
	same(t, "GPUs", r.at(0).GPUs, want)
	same(t, "GPUs after another session", r.at(1).GPUs, want)
	r.setBox(twoGPUs())
	same(t, "GPUs when it is found", r.at(20).GPUs, wantTwoGPUs())
}

// TestHang runs the whole monitor, on the real clock, with a driver that hangs.
func TestHang(t *testing.T) {
	box := twoGPUs()
	r := startReader(t, "monitor", nvmltest.Build(t, nvmltest.Modern), box)
	whole := func(reply report) bool {
		return reply.Problem == "" && len(reply.GPUs) == 2 && reply.GPUs[0].MemoryUsed != nil
	}
	r.until("all is well", whole)
	box.Hang = "nvmlDeviceGetUtilizationRates"
	r.setBox(box)
	reply := r.until("the driver hangs", func(reply report) bool { return reply.Problem != "" })
	if reply.Problem != hangs || reply.Driver != "570.86.15" {
		t.Errorf("problem %q, driver %q", reply.Problem, reply.Driver)
	}
	blank := wantTwoGPUs()
	same(t, "GPUs while it hangs", reply.GPUs, []GPU{blank[0].blank(), blank[1].blank()})
	r.setBox(twoGPUs())
	same(t, "GPUs when it is back", r.until("figures are back", whole).GPUs, wantTwoGPUs())
}

// TestEndsWhileHung checks that the program ends while the driver hangs.
func TestEndsWhileHung(t *testing.T) {
	box := twoGPUs()
	box.Hang, box.CallLog = nvmltest.All, filepath.Join(t.TempDir(), "calls")
	r := startReader(t, "monitor", nvmltest.Build(t, nvmltest.Modern), box)
	r.until("the driver hangs", func(reply report) bool { return reply.Problem != "" })
	if err := r.in.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case reply, more := <-r.out:
		if more {
			t.Errorf("there is still a sample: %+v", reply)
		}
	case <-time.After(waitLimit):
		t.Fatal("it does not end")
	}
}
