package process

import (
	"os"
	"slices"
	"strings"
)

// DeviceVariables returns the environment variables that restrict a program to some GPUs:
// "" for all, "none", or a value of CUDA_VISIBLE_DEVICES.
func DeviceVariables(devices string) []string {
	switch devices {
	case "":
		return nil
	case "none":
		return []string{"CUDA_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES=", "GGML_VK_VISIBLE_DEVICES="}
	default:
		// By default CUDA counts GPUs from the fastest down. Operators read nvidia-smi,
		// which counts by PCI bus.
		return []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + devices}
	}
}

// ownVariables are what systemd passes to llmsup alone.
var ownVariables = []string{
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "CREDENTIALS_DIRECTORY",
}

// Environ returns llmsup's environment without its own settings, without what
// systemd passes to it alone, and without the variables named: those of the
// secrets, and those of the engine in drop.
func Environ(secrets, drop []string) []string {
	dropped := slices.Concat(ownVariables, secrets, drop)
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "LLMSUP_") || slices.Contains(dropped, name)
	})
}
