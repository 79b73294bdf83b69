package config

import (
	"cmp"
	"regexp"
	"time"
)

// devicesPattern matches the values of CUDA_VISIBLE_DEVICES, and none. CUDA treats any
// other value as none, and the model would run on the CPU without a warning.
var devicesPattern = regexp.MustCompile(`^$|^none$|^(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+)(,(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]+))*$`)

// ValidDevices reports whether a value can select GPUs.
func ValidDevices(word string) bool { return devicesPattern.MatchString(word) }

// NoGPU selects no GPU.
const NoGPU = "none"

// DevicesOf returns the GPUs of a server.
func (c *Config) DevicesOf(s Server) string { return cmp.Or(s.GPU, c.GPU.Devices) }

const (
	maxSamples = 3600
	minBusyFor = time.Second // there is one sample per second
	maxBusyFor = time.Hour
)

func (c *Config) validateGPU() error {
	g := c.GPU
	at := func(field, format string, args ...any) error {
		return c.positions.errorf([]string{"gpu", field}, format, args...)
	}
	for name, server := range c.Servers {
		if g.Devices == NoGPU && server.GPU != "" && server.GPU != NoGPU {
			return c.positions.errorf([]string{"servers", name, "gpu"}, "gpu.devices is none, so no GPU is read; remove one of the two settings")
		}
	}
	switch {
	case !ValidDevices(g.Devices):
		return at("devices", "%s is not a GPU; use an index or a UUID of nvidia-smi, several separated by commas, or none", QuoteSafe(g.Devices))
	case g.Fit != FitWait && g.Fit != FitIgnore:
		return at("fit", "%s is neither wait nor ignore", QuoteSafe(g.Fit))
	case g.BadSamples < 1 || g.BadSamples > maxSamples:
		return at("bad_samples", "%d is not between 1 and %d", g.BadSamples, maxSamples)
	case g.GoodSamples < 1 || g.GoodSamples > maxSamples:
		return at("good_samples", "%d is not between 1 and %d", g.GoodSamples, maxSamples)
	case g.BusyPercent < 1 || g.BusyPercent > 100:
		return at("busy_percent", "%d is not between 1 and 100", g.BusyPercent)
	case g.BusyFor != 0 && (g.BusyFor < minBusyFor || g.BusyFor > maxBusyFor):
		return at("busy_for", "%s is neither 0s nor between 1s and 1h", g.BusyFor)
	}
	return nil
}
