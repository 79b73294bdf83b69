package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// What Linux tells of processes under /proc (proc(5)). A figure that can't be
// read is zero: nothing here decides alone.

// clockTick is the unit of CPU times in /proc, which is fixed for user space.
const clockTick = 10 * time.Millisecond

// procStat returns the fields of /proc/PID/stat after the program's name, which
// may itself hold spaces and brackets. Field 3 of proc(5) is the first.
func procStat(pid int) []string {
	raw, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return nil
	}
	i := bytes.LastIndexByte(raw, ')')
	if i < 0 {
		return nil
	}
	return strings.Fields(string(raw[i+1:]))
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// statField returns field n of proc(5)'s stat, counted from 1 as there.
func statField(fields []string, n int) uint64 {
	if n-3 < 0 || n-3 >= len(fields) {
		return 0
	}
	v, _ := strconv.ParseUint(fields[n-3], 10, 64)
	return v
}

// work is what a process has done so far, and what it holds.
type work struct {
	cpu      time.Duration // computed, in all threads
	read     uint64        // bytes, from files or into memory maps
	resident uint64        // bytes in memory
}

// worksOf returns the work of each of some processes.
func worksOf(pids []int) map[int]work {
	works := make(map[int]work, len(pids))
	for _, pid := range pids {
		f := procStat(pid)
		works[pid] = work{
			cpu:      time.Duration(statField(f, 14)+statField(f, 15)) * clockTick,
			resident: statField(f, 24) * uint64(os.Getpagesize()),
			read:     readBytes(pid),
		}
	}
	return works
}

// startTime returns when a process was started, in clock ticks since boot: with
// the pid and the boot, it names a process for good. 0 = there is none.
func startTime(pid int) uint64 { return statField(procStat(pid), 22) }

// processGroup returns a process's group; 0 = there is no such process.
func processGroup(pid int) int { return int(statField(procStat(pid), 5)) }

// readBytes returns how much a process has read, from files or into its memory
// maps.
func readBytes(pid int) uint64 {
	raw, err := os.ReadFile(procPath(pid, "io"))
	if err != nil {
		return 0
	}
	var sum uint64
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name == "rchar" || name == "read_bytes" {
			n, _ := strconv.ParseUint(value, 10, 64)
			sum += n
		}
	}
	return sum
}

// gpuDevices begin the paths of the devices through which processes use GPUs.
var gpuDevices = []string{"/dev/nvidia", "/dev/kfd", "/dev/dri/"}

// usesGPU says whether one of some processes has a GPU's device open.
func usesGPU(pids []int) bool {
	for _, pid := range pids {
		for _, target := range openFiles(pid) {
			for _, device := range gpuDevices {
				if strings.HasPrefix(target, device) {
					return true
				}
			}
		}
	}
	return false
}

// openFiles returns what the descriptors of a process lead to.
func openFiles(pid int) []string {
	dir := procPath(pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var targets []string
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

// withMembers returns the leader of a group, and the other processes of it: what
// a wrapper script has started below it.
func withMembers(leader int) []int {
	pids := []int{leader}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return pids
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != leader && processGroup(pid) == leader {
			pids = append(pids, pid)
		}
	}
	return pids
}

// bootID names the present boot of the machine.
func bootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// listenerInode returns the inode of the TCP socket that listens on a loopback
// port of IPv4; "" = nobody does.
func listenerInode(port int) string {
	const listening = "0A"
	raw, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	// Addresses stand there as little-endian numbers.
	loopback, all := fmt.Sprintf("0100007F:%04X", port), fmt.Sprintf("00000000:%04X", port)
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) > 9 && (f[1] == loopback || f[1] == all) && f[3] == listening {
			return f[9]
		}
	}
	return ""
}
