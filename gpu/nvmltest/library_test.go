package nvmltest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// busyBox returns a box of which all values differ.
func busyBox() Box {
	box := OneGPU()
	box.GPUs[0].Used, box.GPUs[0].Reserved, box.GPUs[0].Total = 3000, 200, 10_000
	box.GPUs[0].Utilization, box.GPUs[0].MemoryUtilization, box.GPUs[0].Temperature = 97, 55, 71
	box.GPUs[0].PowerMilliwatts, box.GPUs[0].PowerLimitMilliwatts = 333_000, 450_000
	box.GPUs[0].Throttle, box.GPUs[0].ECCUncorrected, box.GPUs[0].PCIeReplay = 0x44, 12, 34
	box.GPUs[0].Processes = []Process{{PID: 11, Used: 111}, {PID: 22, Used: NotAvailable}, {PID: 33, Used: 333, Graphics: true}}
	box.GPUs = append(box.GPUs, GPU{UUID: "GPU-second", Name: "second"})
	return box
}

func TestFigures(t *testing.T) {
	cases := map[string]string{ // question: answer
		"system_text nvmlSystemGetDriverVersion":                "0 570.86.15",
		"system_text nvmlSystemGetDriverVersion 9":              "7 ",
		"system_text nvmlSystemGetNVMLVersion":                  "0 12.570.86.15",
		"number nvmlSystemGetCudaDriverVersion":                 "0 12080",
		"number nvmlSystemGetCudaDriverVersion_v2":              "0 12080",
		"number nvmlDeviceGetCount":                             "0 2",
		"number nvmlDeviceGetCount_v2":                          "0 2",
		"process nvmlSystemGetProcessName 4294967295":           "6 ",
		"text nvmlDeviceGetUUID 0":                              "0 GPU-5b1e1f6e-0000-4000-8000-000000000001",
		"text nvmlDeviceGetName 0":                              "0 NVIDIA GeForce RTX 4090",
		"pci nvmlDeviceGetPciInfo 0":                            "0 0000:01:00.0 1 untouched",
		"pci nvmlDeviceGetPciInfo_v2 0":                         "0 0000:01:00.0 1 untouched",
		"pci nvmlDeviceGetPciInfo_v3 0":                         "0 0000:01:00.0 1 00000000:01:00.0",
		"memory nvmlDeviceGetMemoryInfo 0":                      "0 10000 6800 3200",
		"memory_v2 nvmlDeviceGetMemoryInfo_v2 0":                "0 10000 200 6800 3000",
		"memory_v2 nvmlDeviceGetMemoryInfo_v2 0 2":              "25 0 0 0 0",
		"memory_v2 nvmlDeviceGetMemoryInfo_v2 0 16777256":       "25 0 0 0 0", // version 1, of the right size
		"temperature nvmlDeviceGetTemperature 0 0":              "0 71",
		"temperature nvmlDeviceGetTemperature 0 1":              "2 0",
		"temperature_v nvmlDeviceGetTemperatureV 0":             "0 71",
		"temperature_v nvmlDeviceGetTemperatureV 0 1":           "25 0",
		"u32 nvmlDeviceGetPowerUsage 0":                         "0 333000",
		"u32 nvmlDeviceGetEnforcedPowerLimit 0":                 "0 450000",
		"u32 nvmlDeviceGetPowerManagementLimit 0":               "0 450000",
		"u32 nvmlDeviceGetPcieReplayCounter 0":                  "0 34",
		"u64 nvmlDeviceGetCurrentClocksThrottleReasons 0":       "0 68",
		"u64 nvmlDeviceGetCurrentClocksEventReasons 0":          "0 68",
		"u64 nvmlDeviceGetSupportedEventTypes 0":                "0 11",
		"ecc_total nvmlDeviceGetTotalEccErrors 0 1 0":           "0 12",
		"ecc_total nvmlDeviceGetTotalEccErrors 0 0 0":           "0 0",
		"ecc_total nvmlDeviceGetTotalEccErrors 0 2 0":           "2 0",
		"ecc_at nvmlDeviceGetMemoryErrorCounter 0 1 2":          "0 12",
		"ecc_at nvmlDeviceGetMemoryErrorCounter 0 1 1":          "0 0",
		"ecc_at nvmlDeviceGetMemoryErrorCounter 0 1 8":          "2 0",
		"pair nvmlDeviceGetEccMode 0":                           "0 1 1",
		"pair nvmlDeviceGetMigMode 0":                           "3 0 0",
		"u32 nvmlDeviceGetMaxMigDeviceCount 0":                  "0 0",
		"u32 nvmlDeviceGetIndex 0":                              "0 0",
		"index nvmlDeviceGetHandleByIndex 1 1":                  "0",
		"index nvmlDeviceGetHandleByIndex_v2 2 2":               "2",
		"uuid nvmlDeviceGetHandleByUUID GPU-second 3":           "0",
		"uuid nvmlDeviceGetHandleByUUID GPU-third 4":            "6",
		"error nvmlErrorString 15":                              "GPU is lost",
		"u32 nvmlDeviceGetPowerUsage 9":                         "2 0", // a NULL handle
		"null nvmlDeviceGetPowerUsage 0":                        "2",
		"null nvmlDeviceGetMemoryInfo 0":                        "2",
		"processes nvmlDeviceGetComputeRunningProcesses 0 5":    "0 2 11:111 22:18446744073709551615",
		"processes nvmlDeviceGetComputeRunningProcesses_v2 0 5": "0 2 11:111:ffffffff 22:18446744073709551615:ffffffff",
		"processes nvmlDeviceGetComputeRunningProcesses_v3 0 2": "0 2 11:111:ffffffff 22:18446744073709551615:ffffffff",
		// A buffer that is too small returns the count; the first call may pass size 0 and NULL.
		"processes nvmlDeviceGetComputeRunningProcesses_v3 0 1":    "7 2",
		"processes nvmlDeviceGetComputeRunningProcesses_v3 0 0 1":  "7 2",
		"processes nvmlDeviceGetComputeRunningProcesses_v3 0 5 1":  "2 2",
		"processes nvmlDeviceGetMPSComputeRunningProcesses 0 0 1":  "0 0",
		"processes nvmlDeviceGetMPSComputeRunningProcesses_v2 0 5": "0 0",
		"processes nvmlDeviceGetMPSComputeRunningProcesses_v3 0 5": "0 0",
		"processes nvmlDeviceGetGraphicsRunningProcesses 0 5":      "0 1 33:333",
		"processes nvmlDeviceGetGraphicsRunningProcesses_v2 0 5":   "0 1 33:333:ffffffff",
		"processes nvmlDeviceGetGraphicsRunningProcesses_v3 0 5":   "0 1 33:333:ffffffff",
	}
	a := startInitialized(t, Modern, busyBox())
	for question, want := range cases {
		a.expect(question, want)
	}
	// A struct of two numbers is one of twice the size.
	a.expect("u64 nvmlDeviceGetUtilizationRates 0", fmt.Sprintf("0 %d", 97|uint64(55)<<32))
	a.expect(fmt.Sprintf("process nvmlSystemGetProcessName %d", os.Getpid()), "0 "+os.Args[0])
}

func TestMIG(t *testing.T) {
	box := busyBox()
	box.GPUs[0].MIG = true
	a := startInitialized(t, Modern, box)
	a.expect("pair nvmlDeviceGetMigMode 0", "0 1 1")
	a.expect("u32 nvmlDeviceGetMaxMigDeviceCount 0", "0 7")
	a.expect("u64 nvmlDeviceGetUtilizationRates 0", "3 0")
}

func TestFiguresChange(t *testing.T) {
	box := busyBox()
	a := startInitialized(t, Modern, box)
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "0 333000")
	box.GPUs[0].PowerMilliwatts = 1
	a.setBox(box)
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "0 1")
}

func TestInits(t *testing.T) {
	box := busyBox()
	box.Init = "LIB_RM_VERSION_MISMATCH"
	a := startClient(t, Modern, box)
	for _, init := range []string{"plain nvmlInit", "plain nvmlInit_v2", "flags nvmlInitWithFlags"} {
		a.expect(init, "18")
	}
	a.expect("number nvmlDeviceGetCount_v2", "1 0")
	a.expect("plain nvmlShutdown", "1")
	a.setBox(busyBox())
	a.expect("plain nvmlInit_v2", "0")
	a.expect("flags nvmlInitWithFlags", "0")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 0", "0")
	a.expect("set nvmlEventSetCreate 0", "0")
	a.expect("plain nvmlShutdown", "0")
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "0 333000") // one of two nvmlInit is still in effect
	a.expect("plain nvmlShutdown", "0")
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "1 0")
	a.expect("plain nvmlInit", "0")
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "2 0") // a handle from before
	a.expect("free nvmlEventSetFree 0", "2")
}

func TestLostAndMissing(t *testing.T) {
	box := busyBox()
	a := startInitialized(t, Modern, box)
	a.expect("index nvmlDeviceGetHandleByIndex_v2 1 1", "0")
	box.GPUs[0].Lost = true
	a.setBox(box)
	a.expect("number nvmlDeviceGetCount_v2", "0 2")
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "15 0")
	a.expect("u32 nvmlDeviceGetIndex 0", "15 0")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 2", "15")
	a.expect("uuid nvmlDeviceGetHandleByUUID "+box.GPUs[0].UUID+" 2", "15")
	box.GPUs[0].Missing = true
	a.setBox(box)
	a.expect("number nvmlDeviceGetCount_v2", "0 1")
	a.expect("uuid nvmlDeviceGetHandleByUUID "+box.GPUs[0].UUID+" 2", "6")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 2", "0")
	a.expect("text nvmlDeviceGetName 2", "0 second")
	a.expect("text nvmlDeviceGetName 1", "0 second")
	a.expect("u32 nvmlDeviceGetIndex 1", "0 0")
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "15 0")
}

func TestUnsupported(t *testing.T) {
	box := busyBox()
	box.GPUs[0].Unsupported = []string{"nvmlDeviceGetPowerUsage", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses"}
	a := startInitialized(t, Modern, box)
	a.expect("u32 nvmlDeviceGetPowerUsage 0", "3 0")
	a.expect("u32 nvmlDeviceGetEnforcedPowerLimit 0", "0 450000")
	a.expect("memory_v2 nvmlDeviceGetMemoryInfo_v2 0", "3 0 0 0 0")
	a.expect("memory nvmlDeviceGetMemoryInfo 0", "0 10000 6800 3200")
	a.expect("processes nvmlDeviceGetComputeRunningProcesses 0 0", "3 0")
	a.expect("processes nvmlDeviceGetComputeRunningProcesses_v3 0 0", "3 0")
	box.GPUs[0].Unsupported = []string{All}
	a.setBox(box)
	a.expect("u32 nvmlDeviceGetEnforcedPowerLimit 0", "3 0")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 0", "0")
}

// A call that hangs must not block other calls, and continues with the values that
// released it.
func TestHang(t *testing.T) {
	box := busyBox()
	box.Hang = "nvmlDeviceGetPowerUsage"
	box.CallLog = filepath.Join(t.TempDir(), "calls")
	a := startInitialized(t, Modern, box)
	a.send("& u32 nvmlDeviceGetPowerUsage 0")
	for deadline := time.Now().Add(20 * time.Second); !slices.Contains(calls(t, box), "nvmlDeviceGetPowerUsage"); {
		if time.Now().After(deadline) {
			t.Fatal("the call that hangs is not logged in 20 s")
		}
	}
	for range 100 {
		a.expect("u32 nvmlDeviceGetPcieReplayCounter 0", "0 34")
	}
	box.Hang, box.GPUs[0].PowerMilliwatts = "", 5
	a.setBox(box)
	if got := a.receive(); got != "& 0 5" {
		t.Errorf("the released call returns %q, want the present value", got)
	}
	want := append([]string{"nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetPowerUsage"}, slices.Repeat([]string{"nvmlDeviceGetPcieReplayCounter"}, 100)...)
	if got := calls(t, box); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestHangAll(t *testing.T) {
	box := busyBox()
	box.Hang = All
	a := startClient(t, Modern, box)
	a.send("& plain nvmlInit_v2")
	a.expect("error nvmlErrorString 0", "Success")
	box.Hang = "nvmlDeviceGetCount"
	a.setBox(box)
	if got := a.receive(); got != "& 0" {
		t.Errorf("nvmlInit_v2, released, answers %q", got)
	}
	a.send("& number nvmlDeviceGetCount_v2")
	a.expect("system_text nvmlSystemGetDriverVersion", "0 570.86.15")
	box.Hang = ""
	a.setBox(box)
	if got := a.receive(); got != "& 0 2" {
		t.Errorf("nvmlDeviceGetCount_v2, released, answers %q", got)
	}
}

func calls(t *testing.T, box Box) []string {
	t.Helper()
	text, err := os.ReadFile(box.CallLog)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

func TestXids(t *testing.T) {
	box := busyBox()
	box.GPUs[0].Xids = []Xid{{1, 13}}
	a := startInitialized(t, Modern, box)
	for _, set := range []string{"0", "1"} {
		a.expect("set nvmlEventSetCreate "+set, "0")
		a.expect("register nvmlDeviceRegisterEvents 0 8 "+set, "0")
		a.expect("wait nvmlEventSetWait_v2 "+set+" 0", "10") // an earlier Xid is not reported
	}
	a.expect("register nvmlDeviceRegisterEvents 0 16 0", "3")
	a.expect("register nvmlDeviceRegisterEvents 0 0 0", "2")
	a.expect("register nvmlDeviceRegisterEvents 0 8 5", "2")

	box.GPUs[0].Xids = append(box.GPUs[0].Xids, Xid{2, 31}, Xid{3, 79})
	a.setBox(box)
	a.expect("register nvmlDeviceRegisterEvents 0 8 0", "0") // again: no Xid is lost
	a.expect("wait nvmlEventSetWait_v2 0 9000", "0 8:31 ffffffff same")
	a.expect("wait nvmlEventSetWait 1 9000", "0 8:79 7 same") // the ids are not of the old struct
	a.expect("wait nvmlEventSetWait_v2 0 0", "10")
	a.expect("wait nvmlEventSetWait_v2 1 30", "10")

	a.expect("plain nvmlShutdown", "0")
	a.expect("wait nvmlEventSetWait_v2 0 0", "1")
	a.expect("plain nvmlInit_v2", "0")
	a.expect("index nvmlDeviceGetHandleByIndex_v2 0 0", "0")
	a.expect("set nvmlEventSetCreate 0", "0")
	a.expect("register nvmlDeviceRegisterEvents 0 8 0", "0")
	a.expect("wait nvmlEventSetWait_v2 0 0", "10")

	// An Xid that is added while a caller waits, and a GPU that is lost with it.
	a.send("& wait nvmlEventSetWait_v2 0 60000")
	box.GPUs[0].Xids = append(box.GPUs[0].Xids, Xid{4, 74})
	box.GPUs[0].Lost = true
	a.setBox(box)
	if got := a.receive(); got != "& 0 8:74 ffffffff same" {
		t.Errorf("the wait ends with %q", got)
	}
	a.expect("wait nvmlEventSetWait_v2 0 60000", "15")
	a.expect("free nvmlEventSetFree 0", "0")
	a.expect("wait nvmlEventSetWait_v2 0 0", "2")
}

func TestOldDriver(t *testing.T) {
	a := startInitialized(t, OldDriver, busyBox())
	a.expect("memory_v2 nvmlDeviceGetMemoryInfo_v2 0", "missing")
	a.expect("memory nvmlDeviceGetMemoryInfo 0", "0 10000 6800 3200")
	a.expect("processes nvmlDeviceGetComputeRunningProcesses 0 5", "0 2 11:111 22:18446744073709551615")
}

// An old driver lacks the symbols of newer.c, and nothing else is exported.
func TestSymbols(t *testing.T) {
	header, err := sources.ReadFile("lib/abi.h")
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	for _, match := range regexp.MustCompile(`(?m)^(?:nvmlReturn_t|const char \*)\s*(nvml\w+)\(`).FindAllStringSubmatch(string(header), -1) {
		declared = append(declared, match[1])
	}
	slices.Sort(declared)
	modern, old := symbols(t, Modern), symbols(t, OldDriver)
	if !slices.Equal(modern, declared) {
		t.Errorf("exported are %q, declared %q", modern, declared)
	}
	lacking := slices.DeleteFunc(modern, func(name string) bool { return slices.Contains(old, name) })
	want := []string{
		"nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetCurrentClocksEventReasons",
		"nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3",
		"nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetTemperatureV",
		"nvmlEventSetWait_v2", "nvmlSystemGetCudaDriverVersion_v2",
	}
	if !slices.Equal(lacking, want) {
		t.Errorf("the old driver lacks %q, want %q", lacking, want)
	}
}

func symbols(t *testing.T, variant Variant) []string {
	t.Helper()
	out, err := exec.Command("nm", "-D", "--defined-only", "--format=just-symbols", filepath.Join(Build(t, variant), soname)).Output()
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(out))
	slices.Sort(names)
	return names
}
