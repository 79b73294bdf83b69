package threeboxes

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// testAddress is the test's own address on the bridge.
const testAddress = "10.77.0.254"

// nowhere is the address of no network interface.
const nowhere = "02:00:00:00:00:ff"

// host is a network namespace with one address on the bridge.
type host struct {
	t       *testing.T
	name    string
	address string
	mac     string
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %q: %v (its package is iproute2)\n%s", args, err, out)
	}
}

// newBridge makes the bridge, in the namespace of the test. It ends with the test.
func newBridge(t *testing.T) {
	t.Helper()
	ip(t, "link", "set", "lo", "up")
	ip(t, "link", "add", "bridge", "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "del", "bridge") })
	ip(t, "addr", "add", testAddress+"/24", "dev", "bridge")
	ip(t, "link", "set", "bridge", "up")
}

// newHost makes a namespace with the address 10.77.0.number. It ends with the test.
func newHost(t *testing.T, name string, number int) *host {
	t.Helper()
	h := &host{t, name, fmt.Sprintf("10.77.0.%d", number), fmt.Sprintf("02:00:00:00:00:%02x", number)}
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	ip(t, "link", "add", name, "type", "veth", "peer", "name", "eth0", "address", h.mac, "netns", name)
	t.Cleanup(func() { ip(t, "link", "del", name) }) // the kernel removes it some time after its namespace
	ip(t, "link", "set", name, "master", "bridge", "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", h.address + "/24", "dev", "eth0"},
		{"link", "set", "eth0", "up"},
	} {
		ip(t, append([]string{"-n", name}, args...)...)
	}
	return h
}

// start starts a process in the namespace.
func (h *host) start(cmd *exec.Cmd) error {
	return h.within(cmd.Start)
}

// within runs do on a thread that is in the namespace. A process that it starts is there too.
func (h *host) within(do func() error) error {
	runtime.LockOSThread() // without an unlock, the thread ends, if it cannot return to its namespace
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + h.name)
	if err != nil {
		return err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	failed := do()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	runtime.UnlockOSThread()
	return failed
}

// drop loses each packet that h sends to one of the others, in silence, until heal.
func (h *host) drop(to ...*host) { h.sendTo(to, func(*host) string { return nowhere }) }

// heal ends drop.
func (h *host) heal(to ...*host) { h.sendTo(to, func(other *host) string { return other.mac }) }

func (h *host) sendTo(to []*host, mac func(*host) string) {
	h.t.Helper()
	for _, other := range to {
		if other != h {
			ip(h.t, "-n", h.name, "neigh", "replace", other.address, "lladdr", mac(other), "dev", "eth0", "nud", "permanent")
		}
	}
}
