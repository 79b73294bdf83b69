//go:build linux && cgo

package gpu

import (
	"errors"
	"fmt"

	api "github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvml calls NVIDIA's driver through libnvidia-ml.so.1.
//
// The library comes with the driver, of any version. A call of a function that it lacks
// would kill the process, so each function is looked up first (has). A value that it
// cannot return (NOT_SUPPORTED and all other errors) is left out.
//
// Source: nvml.h of the 580 drivers, and go-nvml's bindings.
type nvml struct {
	lib     api.Interface
	handles []handle
	events  api.EventSet        // nil = the driver reports no errors
	xids    map[string][]uint64 // not yet in a reading, by UUID
	symbols map[string]bool
}

// handle is a GPU of a session.
type handle struct {
	device api.Device // nil = it was lost before the session
	GPU               // the constant parts: index, UUID, name
}

func newNVML() driver {
	return &nvml{lib: api.New(), xids: map[string][]uint64{}, symbols: map[string]bool{}}
}

// has reports whether the library has a function, in one of several versions.
func (n *nvml) has(names ...string) bool {
	for _, name := range names {
		known, looked := n.symbols[name]
		if !looked {
			known = n.lib.Extensions().LookupSymbol(name) == nil
			n.symbols[name] = known
		}
		if known {
			return true
		}
	}
	return false
}

func (n *nvml) open() (versions, error) {
	if ret := n.lib.Init(); ret != api.SUCCESS {
		return versions{}, initError(ret)
	}
	var v versions
	if n.has("nvmlSystemGetDriverVersion") {
		if text, ret := n.lib.SystemGetDriverVersion(); ret == api.SUCCESS {
			v.driver = text
		}
	}
	if n.has("nvmlSystemGetCudaDriverVersion") {
		if number, ret := n.lib.SystemGetCudaDriverVersion(); ret == api.SUCCESS {
			v.cuda = fmt.Sprintf("%d.%d", number/1000, number%1000/10)
		}
	}
	for _, names := range requiredSymbols {
		if !n.has(names...) {
			n.close()
			return versions{}, fmt.Errorf("libnvidia-ml.so.1 has no %s: it is not NVIDIA's, or the driver is too old", names[0])
		}
	}
	count, ret := n.lib.DeviceGetCount()
	if ret != api.SUCCESS {
		err := fmt.Errorf("the NVIDIA driver cannot count the GPUs: %s", n.lib.ErrorString(ret))
		n.close()
		return versions{}, err
	}
	n.handles = nil
	for i := range count {
		if s, accessible := n.openHandle(i); accessible {
			n.handles = append(n.handles, s)
		}
	}
	n.register()
	return v, nil
}

// requiredSymbols are the functions that every driver of the last decade has.
var requiredSymbols = [][]string{
	{"nvmlShutdown"},
	{"nvmlDeviceGetCount", "nvmlDeviceGetCount_v2"},
	{"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByIndex_v2"},
	{"nvmlDeviceGetUUID"},
	{"nvmlDeviceGetName"},
}

// initErrors are the messages for a library that does not start.
var initErrors = map[api.Return]error{
	api.ERROR_LIBRARY_NOT_FOUND: absentError("no libnvidia-ml.so.1: the NVIDIA driver is not installed, or not in this container"),
	api.ERROR_DRIVER_NOT_LOADED: errors.New("the NVIDIA driver is not loaded: try modprobe nvidia, or look for NVRM in dmesg"),
	// Once loaded, the library stays in the process, whichever version is on disk.
	api.ERROR_LIB_RM_VERSION_MISMATCH: errors.New("the NVIDIA driver's library and its kernel module are of different versions: load the new module, or reboot, and restart llmsup"),
	api.ERROR_NO_PERMISSION:           errors.New("this user has no access to the NVIDIA driver: check the permissions of /dev/nvidia*"),
}

func initError(ret api.Return) error {
	if err := initErrors[ret]; err != nil {
		return err
	}
	return fmt.Errorf("the NVIDIA driver's library does not start: %s", ret.Error())
}

// openHandle reads the constant parts of a GPU. A lost GPU has a handle, too; accessible
// is false for one that this container may not use.
func (n *nvml) openHandle(index int) (s handle, accessible bool) {
	s = handle{GPU: GPU{Index: index}}
	device, ret := n.lib.DeviceGetHandleByIndex(index)
	if ret != api.SUCCESS {
		s.Lost = true
		return s, ret != api.ERROR_NO_PERMISSION
	}
	s.device = device
	if uuid, ret := device.GetUUID(); ret == api.SUCCESS {
		s.UUID = uuid
	} else {
		s.Lost = lost(ret)
	}
	if name, ret := device.GetName(); ret == api.SUCCESS {
		s.Name = name
	}
	return s, true
}

// register subscribes to Xid errors. vGPU drivers and very old cards do not report them.
func (n *nvml) register() {
	n.events = nil
	if !n.has("nvmlEventSetCreate") || !n.has("nvmlDeviceRegisterEvents") || !n.has("nvmlEventSetWait", "nvmlEventSetWait_v2") || !n.has("nvmlEventSetFree") {
		return
	}
	set, ret := n.lib.EventSetCreate()
	if ret != api.SUCCESS {
		return
	}
	registered := false
	for _, s := range n.handles {
		if s.device != nil && s.device.RegisterEvents(api.EventTypeXidCriticalError, set) == api.SUCCESS {
			registered = true
		}
	}
	if !registered {
		_ = set.Free() // no event can arrive
		return
	}
	n.events = set
}

func (n *nvml) close() {
	if n.events != nil {
		n.receiveXids()     // the next session's event set will not have them
		_ = n.events.Free() // the session ends with or without an error
		n.events = nil
	}
	n.handles = nil
	if n.has("nvmlShutdown") {
		_ = n.lib.Shutdown() // it fails only if there was no session
	}
}

func (n *nvml) read() (gpus []GPU, stale bool, err error) {
	if _, ret := n.lib.DeviceGetCount(); ret != api.SUCCESS && !lost(ret) {
		return nil, true, fmt.Errorf("the NVIDIA driver no longer answers: %s", n.lib.ErrorString(ret))
	}
	for _, s := range n.handles {
		g := s.GPU
		if s.device != nil && !g.Lost {
			g = n.readGPU(s)
		}
		stale = stale || g.Lost
		gpus = append(gpus, g)
	}
	n.receiveXids()
	for i := range gpus {
		gpus[i].Xids = n.xids[gpus[i].UUID]
	}
	clear(n.xids)
	return gpus, stale, nil
}

// maxXids is how many events are read at most in one reading.
const maxXids = 64

// receiveXids reads the events since the last call.
func (n *nvml) receiveXids() {
	for range maxXids {
		if n.events == nil {
			return
		}
		event, ret := n.events.Wait(0)
		if ret != api.SUCCESS { // TIMEOUT: no event
			return
		}
		for _, s := range n.handles {
			if s.device == event.Device && event.EventType == api.EventTypeXidCriticalError {
				n.xids[s.UUID] = append(n.xids[s.UUID], event.EventData)
			}
		}
	}
}

// readGPU reads all values of a GPU.
func (n *nvml) readGPU(s handle) GPU {
	r := reading{GPU: s.GPU}
	d := s.device
	n.memory(&r, d)
	if n.has("nvmlDeviceGetUtilizationRates") {
		u, ret := d.GetUtilizationRates()
		r.Utilization, r.MemoryUtilization = supported(&r, ret, int(u.Gpu)), supported(&r, ret, int(u.Memory))
	}
	switch { // NVIDIA will remove the older function
	case n.has("nvmlDeviceGetTemperature"):
		t, ret := d.GetTemperature(api.TEMPERATURE_GPU)
		r.Temperature = supported(&r, ret, int(t))
	case n.has("nvmlDeviceGetTemperatureV"):
		t, ret := d.GetTemperatureV().V1()
		r.Temperature = supported(&r, ret, int(t.Temperature))
	}
	if n.has("nvmlDeviceGetPowerUsage") {
		milliwatts, ret := d.GetPowerUsage()
		r.Power = supported(&r, ret, float64(milliwatts)/1000)
	}
	if n.has("nvmlDeviceGetEnforcedPowerLimit") {
		milliwatts, ret := d.GetEnforcedPowerLimit()
		r.PowerLimit = supported(&r, ret, float64(milliwatts)/1000)
	}
	switch { // the newer name of the same function
	case n.has("nvmlDeviceGetCurrentClocksEventReasons"):
		reasons, ret := d.GetCurrentClocksEventReasons()
		r.Slowdown = supported(&r, ret, Slowdown(reasons))
	case n.has("nvmlDeviceGetCurrentClocksThrottleReasons"):
		reasons, ret := d.GetCurrentClocksThrottleReasons()
		r.Slowdown = supported(&r, ret, Slowdown(reasons))
	}
	if n.has("nvmlDeviceGetTotalEccErrors") {
		errors, ret := d.GetTotalEccErrors(api.MEMORY_ERROR_TYPE_UNCORRECTED, api.VOLATILE_ECC)
		r.ECCUncorrected = supported(&r, ret, errors)
	}
	if n.has("nvmlDeviceGetPcieReplayCounter") {
		replays, ret := d.GetPcieReplayCounter()
		r.PCIeReplays = supported(&r, ret, uint64(max(replays, 0)))
	}
	n.processes(&r, d)
	before := r.MemoryUsed
	n.memory(&r, d)
	r.Inconsistent = before != nil && r.MemoryUsed != nil && max(*before, *r.MemoryUsed)-min(*before, *r.MemoryUsed) > jitter
	if r.Lost {
		return r.blank()
	}
	return r.GPU
}

// memory reads how much is used. The newer function leaves out the memory that the driver
// reserves, as nvidia-smi does.
func (n *nvml) memory(r *reading, d api.Device) {
	r.MemoryTotal = nil
	if n.has("nvmlDeviceGetMemoryInfo_v2") {
		m, ret := d.GetMemoryInfo_v2()
		r.memory(ret, m.Total, m.Used, m.Free)
	}
	if r.MemoryTotal == nil && n.has("nvmlDeviceGetMemoryInfo") {
		m, ret := d.GetMemoryInfo()
		r.memory(ret, m.Total, m.Used, m.Free)
	}
}

// processes reads which processes have the GPU open. The result is known only if the list
// of compute processes is; lists that the card does not keep count as empty.
func (n *nvml) processes(r *reading, d api.Device) {
	var lists [][]Process
	for _, list := range []struct {
		name string
		get  func() ([]api.ProcessInfo, api.Return)
		must bool
	}{
		{"nvmlDeviceGetComputeRunningProcesses", d.GetComputeRunningProcesses, true},
		{"nvmlDeviceGetGraphicsRunningProcesses", d.GetGraphicsRunningProcesses, false},
		{"nvmlDeviceGetMPSComputeRunningProcesses", d.GetMPSComputeRunningProcesses, false},
	} {
		if !n.has(list.name, list.name+"_v2", list.name+"_v3") {
			if list.must {
				return
			}
			continue
		}
		infos, ret := list.get()
		r.Lost = r.Lost || lost(ret)
		if ret != api.SUCCESS && list.must {
			return
		}
		lists = append(lists, processes(infos))
	}
	r.Processes, r.ProcessesKnown = merge(lists...), true
}

// notAvailable is NVML_VALUE_NOT_AVAILABLE: the driver does not know a process's memory.
const notAvailable = ^uint64(0)

func processes(infos []api.ProcessInfo) []Process {
	var list []Process
	for _, info := range infos {
		p := Process{PID: int(info.Pid)}
		if info.UsedGpuMemory != notAvailable {
			p.Memory = &info.UsedGpuMemory
		}
		list = append(list, p)
	}
	return list
}

// reading is a GPU that is being read.
type reading struct{ GPU }

func (r *reading) memory(ret api.Return, total, used, free uint64) {
	r.MemoryTotal, r.MemoryUsed, r.MemoryFree = supported(r, ret, total), supported(r, ret, used), supported(r, ret, free)
}

// supported returns a value if the driver returned it, else nil.
func supported[T any](r *reading, ret api.Return, figure T) *T {
	r.Lost = r.Lost || lost(ret)
	if ret != api.SUCCESS {
		return nil
	}
	return &figure
}

// lost reports whether a return code means that the GPU needs a reset or a reboot.
func lost(ret api.Return) bool {
	return ret == api.ERROR_GPU_IS_LOST || ret == api.ERROR_RESET_REQUIRED
}
