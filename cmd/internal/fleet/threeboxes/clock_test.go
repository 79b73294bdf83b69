package threeboxes

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
)

// clockCode is machine code in place of the kernel's clock_gettime (__vdso_clock_gettime).
// It asks the kernel, and adds a second if the clock is CLOCK_REALTIME.
var clockCode = map[string][]byte{
	"amd64": {
		0xb8, 0xe4, 0, 0, 0, // mov eax, 228: clock_gettime(edi: the clock, rsi: its seconds and nanoseconds)
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 0x04, // jne to the ret
		0x48, 0x83, 0x06, 0x01, // add qword ptr [rsi], 1
		0xc3, // ret
	},
}

// startFast starts a process whose clock is a second fast. Go programs read the clock by a
// function that the kernel maps into each process, so a library (libfaketime) cannot change it,
// and a time namespace has no such offset. This replaces the function in the one process. The
// caller has locked its thread.
func startFast(cmd *exec.Cmd) (err error) {
	code, known := clockCode[runtime.GOARCH]
	if !known {
		return errors.New("this test has no code that changes the clock on " + runtime.GOARCH)
	}
	cmd.SysProcAttr.Ptrace = true
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil {
		return err
	}
	if !status.Stopped() {
		return fmt.Errorf("the process did not stop after exec: %v", status)
	}
	address, err := clockFunction(cmd.Process.Pid)
	if err != nil {
		return err
	}
	if _, err := syscall.PtracePokeText(cmd.Process.Pid, address, code); err != nil {
		return err
	}
	return syscall.PtraceDetach(cmd.Process.Pid)
}

var vdsoMapping = regexp.MustCompile(`(?m)^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$`)

// clockFunction finds the function in a stopped process.
func clockFunction(pid int) (uintptr, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	found := vdsoMapping.FindSubmatch(maps)
	if found == nil {
		return 0, errors.New("the process has no vDSO")
	}
	first, err1 := strconv.ParseInt(string(found[1]), 16, 64)
	end, err2 := strconv.ParseInt(string(found[2]), 16, 64)
	mem, err3 := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, err
	}
	defer mem.Close()
	image, err := io.ReadAll(io.NewSectionReader(mem, first, end-first))
	if err != nil {
		return 0, err
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := file.DynamicSymbols()
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return uintptr(first) + uintptr(s.Value), nil
		}
	}
	return 0, errors.Join(errors.New("the vDSO has no clock_gettime"), err)
}
