package process

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// clockTick is the unit of CPU times in /proc. Linux fixes it for user space.
const clockTick = 10 * time.Millisecond

// Usage is what a process has used so far, and the memory it has now.
type Usage struct {
	CPU      time.Duration // of all threads
	Read     uint64        // bytes, from files or into memory maps
	Resident uint64        // bytes in memory
}

// UsageOf returns the usage of each of some processes.
func UsageOf(pids []int) map[int]Usage {
	usage := make(map[int]Usage, len(pids))
	for _, pid := range pids {
		s := stat(pid)
		usage[pid] = Usage{
			CPU:      time.Duration(s.UTime+s.STime) * clockTick,
			Resident: uint64(max(s.RSS, 0)) * uint64(os.Getpagesize()),
			Read:     readBytes(pid),
		}
	}
	return usage
}

// stat reads /proc/PID/stat.
func stat(pid int) procfs.ProcStat {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return procfs.ProcStat{}
	}
	s, err := p.Stat()
	if err != nil {
		return procfs.ProcStat{}
	}
	return s
}

// readBytes returns how much a process has read, from files or into its memory
// maps.
func readBytes(pid int) uint64 {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0
	}
	io, err := p.IO()
	if err != nil {
		return 0
	}
	return io.RChar + io.ReadBytes
}

// FileBytes returns how much some processes have read of their files, in bytes: by reads, or as
// pages of memory maps, which count once they are in the process's memory. Of a load of a model,
// it is most of the time what a slow disk takes; what follows (a test run) is not in it.
func FileBytes(pids []int) (sum uint64) {
	for _, pid := range pids {
		p, err := procfs.NewProc(pid)
		if err != nil {
			continue
		}
		io, _ := p.IO() // zero if it has ended
		status, _ := p.NewStatus()
		sum += max(io.RChar, io.ReadBytes, status.RssFile) // a read from the disk counts in two of them
	}
	return sum
}

// gpuDevices are the prefixes of the device files through which processes use GPUs.
var gpuDevices = []string{"/dev/nvidia", "/dev/kfd", "/dev/dri/"}

// UsesGPU reports whether one of some processes has a GPU's device file open.
func UsesGPU(pids []int) bool {
	return slices.ContainsFunc(pids, func(pid int) bool {
		return slices.ContainsFunc(openFiles(pid), func(target string) bool {
			return slices.ContainsFunc(gpuDevices, func(device string) bool { return strings.HasPrefix(target, device) })
		})
	})
}

// openFiles returns what the file descriptors of a process lead to.
func openFiles(pid int) []string {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return nil
	}
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return nil
	}
	return targets
}

// Group returns the leader of a process group, and the other processes of it: what
// a wrapper script has started below it.
//
// The group of each process comes from getpgid(2), and not from procfs, which
// would read and parse /proc/PID/stat of all processes of the machine.
func Group(leader int) []int {
	pids := []int{leader}
	all, err := procfs.AllProcs()
	if err != nil {
		return pids
	}
	for _, p := range all {
		if p.PID != leader && groupOf(p.PID) == leader {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// groupOf returns the number of a process's group; 0 = there is no such process.
func groupOf(pid int) int {
	group, err := unix.Getpgid(pid)
	if err != nil {
		return 0
	}
	return group
}
