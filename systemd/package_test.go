package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestPackage installs, upgrades, removes and purges the .deb of scripts/package.sh in a
// booted Debian: the stable one; with LLMSUP_TEST_LONG testing as well, and Debian 11 with
// the program that package.sh itself builds for it. The subtests share a container, in
// this order.
func TestPackage(t *testing.T) {
	if os.Geteuid() != 0 {
		notRun(t, "it boots a systemd in a container, which needs root: sudo scripts/test.sh ./systemd")
	}
	suites := []string{"stable"}
	if os.Getenv("LLMSUP_TEST_LONG") != "" {
		suites = append(suites, "testing", "bullseye")
	}
	for _, suite := range suites {
		t.Run(suite, func(t *testing.T) {
			p := &packaged{bootForService(t, suite)}
			if suite == "bullseye" { // its C library is too old for a program that go build has linked with this machine's
				p.buildForOldest(t)
			}
			p.pack(t, "1.0.0")
			p.pack(t, "1.1.0")
			for _, part := range []struct {
				name string
				run  func(*packaged)
			}{
				{"install.sh and the package exclude each other", (*packaged).exclusive},
				{"installed, it is not started", (*packaged).install},
				{"its configuration is checked as the service's", (*packaged).checked},
				{"it answers", (*packaged).answers},
				{"upgraded under load", (*packaged).upgrade},
				{"upgraded with a broken configuration", (*packaged).upgradeBroken},
				{"upgraded while it fails", (*packaged).upgradeFailing},
				{"upgraded while it is stopped", (*packaged).upgradeStopped},
				{"on a systemd without notify-reload", (*packaged).olderSystemd},
				{"removed", (*packaged).remove},
				{"purged", (*packaged).purge},
				{"from nothing to an answer", (*packaged).fromNothing},
			} {
				if !t.Run(part.name, func(t *testing.T) { part.run(&packaged{p.with(t)}) }) {
					t.Logf("the journal:\n%s", p.ask("journalctl", "-u", "llmsup.service", "-u", "llmsup.socket", "-n", "40", "--no-pager", "-o", "cat"))
				}
			}
		})
	}
}

// packaged is a service that a package installs.
type packaged struct{ *service }

// pack makes the .deb of a version, in a folder of that name.
func (p *packaged) pack(t *testing.T, version string) {
	t.Helper()
	p.makePackage(t, "--binary", filepath.Join(p.work, "llmsup"), "--format", "deb", "--version", version, "--out", filepath.Join(p.work, version))
}

// buildForOldest replaces the program by the one that package.sh builds for all systems.
func (p *packaged) buildForOldest(t *testing.T) {
	t.Helper()
	out := t.TempDir()
	p.makePackage(t, "--format", "tar.gz", "--version", "1.0.0", "--out", out, runtime.GOARCH)
	name := "llmsup-1.0.0-linux-" + runtime.GOARCH
	if text, err := exec.Command("tar", "-xzf", filepath.Join(out, name+".tar.gz"), "-C", p.work, "--strip-components=1", name+"/llmsup").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, text)
	}
}

func (p *packaged) makePackage(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("../scripts/package.sh", args...).CombinedOutput(); err != nil {
		t.Fatalf("scripts/package.sh: %v: %s", err, out)
	}
}

// hasNotifyReload reports whether the container's systemd has all settings of the unit.
func (p *packaged) hasNotifyReload() bool {
	var version int
	if _, err := fmt.Sscanf(p.must("systemctl", "--version"), "systemd %d", &version); err != nil {
		p.t.Fatal(err)
	}
	return version >= 254
}

// unpackTarball unpacks the tarball of a release in the container, and returns its folder.
func (p *packaged) unpackTarball() string {
	p.t.Helper()
	out, err := exec.Command("../scripts/package.sh", "--format", "tar.gz", "--version", "1.0.0", "--binary", filepath.Join(p.work, "llmsup"), "--out", filepath.Join(p.work, "tarball")).CombinedOutput()
	if err != nil {
		p.t.Fatalf("scripts/package.sh: %v: %s", err, out)
	}
	folder := "llmsup-1.0.0-linux-" + runtime.GOARCH
	p.must("tar", "-C", "/opt", "-xf", "/built/tarball/"+folder+".tar.gz")
	return "/opt/" + folder
}

// apt installs the package of a version.
func (p *packaged) apt(version string) (status int, out string) {
	p.t.Helper()
	deb := "/built/" + version + "/llmsup_" + version + "-1_" + runtime.GOARCH + ".deb"
	return p.try("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--allow-downgrades", deb)
}

func (p *packaged) mustApt(version string) string {
	p.t.Helper()
	status, out := p.apt(version)
	if status != 0 {
		p.t.Fatalf("apt-get install: exit %d: %s", status, out)
	}
	if now := p.must("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "llmsup"); now != "installed "+version+"-1" {
		p.t.Fatalf("dpkg has llmsup %s", now)
	}
	return out
}

// exclusive: a package and install.sh, here that of the tarball, refuse to mix their files.
func (p *packaged) exclusive() {
	install := p.unpackTarball() + "/scripts/install.sh"
	p.must(install, "--no-start")
	if status, out := p.apt("1.0.0"); status == 0 || !strings.Contains(out, "llmsup: scripts/install.sh has installed llmsup here. Remove that first") {
		p.t.Errorf("exit %d: %s", status, out)
	}
	p.must(install, "--uninstall")
	p.must("rm", "/etc/llmsup/llmsup.yaml") // for the one of the package
	p.must("userdel", "llmsup")
	p.mustApt("1.0.0")
	for _, args := range [][]string{{install}, {install, "--uninstall", "--purge"}} {
		if status, out := p.try(args...); status != 1 || !strings.Contains(out, "llmsup is installed as a package") {
			p.t.Errorf("%q: exit %d: %s", args, status, out)
		}
	}
	p.must("test", "!", "-e", "/usr/local/bin/llmsup")
	if changed := p.must("dpkg", "--verify", "llmsup"); changed != "" {
		p.t.Errorf("install.sh changed files of the package: %s", changed)
	}
	p.must("apt-get", "remove", "--yes", "llmsup")
}

func (p *packaged) install() {
	out := p.mustApt("1.0.0")
	if !strings.Contains(out, "llmsup is installed, and neither enabled nor started. Next:") {
		p.t.Errorf("apt-get prints %s", out)
	}
	for _, unit := range []string{"llmsup.service", "llmsup.socket"} {
		if state := p.show(unit, "ActiveState") + " " + p.show(unit, "UnitFileState"); state != "inactive disabled" {
			p.t.Errorf("%s is %s", unit, state)
		}
	}
	for path, want := range map[string]string{
		"/etc/llmsup": "750 root llmsup", "/etc/llmsup/llmsup.yaml": "640 root llmsup", "/etc/llmsup/credentials": "700 root root",
		"/usr/bin/llmsup": "755 root root",
	} {
		if got := p.must("stat", "-c", "%a %U %G", path); got != want {
			p.t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if out := p.must("systemd-analyze", "verify", "llmsup.service", "llmsup.socket"); out != "" && p.hasNotifyReload() {
		p.t.Errorf("systemd-analyze verify: %s", out)
	}
	if out := p.must("bash", "-c", `. /usr/share/bash-completion/bash_completion; _comp_load llmsup 2>/dev/null || _completion_loader llmsup; complete -p llmsup`); !strings.Contains(out, "_llmsup") {
		p.t.Errorf("bash has for llmsup %q", out)
	}
	if out := p.must("man", "--where", "llmsup"); out != "/usr/share/man/man1/llmsup.1.gz" {
		p.t.Errorf("the manual page is %s", out)
	}
}

// checked: service-check.sh reports what the service's user cannot read.
func (p *packaged) checked() {
	const check = "/usr/lib/llmsup/scripts/service-check.sh"
	if out := p.must(check); !strings.Contains(out, "ok       /etc/llmsup/llmsup.yaml is valid") {
		p.t.Errorf("it prints %s", out)
	}
	p.write(configFile, strings.Replace(p.config(""), "llama_server: "+p.llama+"\n", "", 1))
	if status, out := p.try(check); status != 1 || !strings.Contains(out, "; sudo /usr/lib/llmsup/scripts/service-llama-server.sh installs one, or") {
		p.t.Errorf("without a llama-server: exit %d: %s", status, out)
	}
	p.write("/root/demo.gguf", "")
	p.write(configFile, strings.Replace(p.config(""), "/built/demo.gguf", "/root/demo.gguf", 1))
	if status, out := p.try(check); status != 1 || !strings.Contains(out, "error    server demo: read model /root/demo.gguf: permission denied") {
		p.t.Errorf("exit %d: %s", status, out)
	}
}

func (p *packaged) answers() {
	p.write(configFile, p.config(""))
	p.write("/etc/llmsup/credentials/openrouter", key+"\n")
	p.must("systemctl", "enable", "--now", "llmsup.socket", "llmsup.service")
	p.awaitServed()
	if path := p.must("readlink", "/proc/"+p.show("llmsup.service", "MainPID")+"/exe"); path != "/usr/bin/llmsup" {
		p.t.Errorf("it runs %s", path)
	}
	p.must("systemctl", "reload", "llmsup.service")
	p.awaitServed()
}

// upgrade: 50 calls a second go on, and each is answered.
func (p *packaged) upgrade() {
	pid := p.show("llmsup.service", "MainPID")
	stop := make(chan struct{})
	ended := make(chan struct{})
	var calls atomic.Int64
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second / 50)
		defer tick.Stop()
		pending := make(chan struct{}, 1000)
		for {
			select {
			case <-tick.C:
				pending <- struct{}{}
				go func() {
					defer func() { <-pending }()
					if _, err := p.call(newConnections, "local/demo"); err != nil {
						p.t.Errorf("a call: %v", err)
					}
					calls.Add(1)
				}()
			case <-stop:
				for range cap(pending) { // until all have ended
					pending <- struct{}{}
				}
				return
			}
		}
	}()
	p.await("20 calls are made", func() bool { return calls.Load() >= 20 })
	out := p.mustApt("1.1.0")
	before := calls.Load()
	p.await("20 more calls are made", func() bool { return calls.Load() >= before+20 })
	close(stop)
	<-ended
	p.t.Logf("%d calls", calls.Load())
	if !strings.Contains(out, "llmsup was restarted: its configuration is valid") {
		p.t.Errorf("apt-get prints %s", out)
	}
	if now := p.show("llmsup.service", "MainPID"); now == pid {
		p.t.Error("the old process still runs")
	}
	if text := p.must("cat", configFile); text != strings.TrimSpace(p.config("")) {
		p.t.Errorf("the configuration has become %s", text)
	}
}

func (p *packaged) upgradeBroken() {
	p.awaitServed()
	pid := p.show("llmsup.service", "MainPID")
	p.write(configFile, p.config("nonsense: 1\n"))
	out := p.mustApt("1.0.0")
	if !strings.Contains(out, `unknown key "nonsense"`) || !strings.Contains(out, "llmsup was not restarted: the old process still runs. Correct the errors above, then: systemctl restart llmsup") {
		p.t.Errorf("apt-get prints %s", out)
	}
	if now := p.show("llmsup.service", "MainPID"); now != pid {
		p.t.Errorf("process %s runs, before it was %s", now, pid)
	}
	p.awaitServed()
	p.write(configFile, p.config(""))
}

// upgradeFailing: apt shows that llmsup does not run, and why it has not restarted it.
func (p *packaged) upgradeFailing() {
	p.write(configFile, p.config("nonsense: 1\n"))
	if status, _ := p.try("systemctl", "restart", "llmsup.service"); status == 0 {
		p.t.Error("systemctl restart succeeds with a broken configuration")
	}
	p.await("systemd has started it again", func() bool { return p.show("llmsup.service", "NRestarts") != "0" })
	if out := p.mustApt("1.1.0"); !strings.Contains(out, "llmsup is failing: systemd starts it again and again, from now on with this version; journalctl -u llmsup -e shows why") {
		p.t.Errorf("apt-get prints %s", out)
	}
	p.write(configFile, p.config(""))
	p.must("systemctl", "restart", "llmsup.service")
	p.awaitServed()
}

// upgradeStopped: what the administrator has stopped stays so.
func (p *packaged) upgradeStopped() {
	p.must("systemctl", "stop", "llmsup.socket", "llmsup.service")
	p.mustApt("1.0.0")
	for _, unit := range []string{"llmsup.service", "llmsup.socket"} {
		if state := p.show(unit, "ActiveState") + " " + p.show(unit, "UnitFileState"); state != "inactive enabled" {
			p.t.Errorf("%s is %s", unit, state)
		}
	}
	p.must("systemctl", "start", "llmsup.socket", "llmsup.service")
	p.awaitServed()
}

// olderSystemd: where systemd is older than 253 a drop-in replaces Type=notify-reload.
func (p *packaged) olderSystemd() {
	const dropIn = "/usr/lib/systemd/system/llmsup.service.d"
	p.write("/opt/older/systemctl", `#!/bin/sh
case $1 in --version) echo 'systemd 252 (252.39-1)' ;; *) exec /usr/bin/systemctl "$@" ;; esac
`)
	p.must("chmod", "755", "/opt/older/systemctl")
	p.must("env", "PATH=/opt/older:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "dpkg-reconfigure", "--force", "llmsup")
	if text := p.must("cat", dropIn+"/older-systemd.conf"); text != "[Service]\nType=notify\nExecReload=/bin/sh -c \"kill -HUP $MAINPID\"" {
		p.t.Errorf("the drop-in is %s", text)
	}
	p.awaitServed()
	p.must("systemctl", "reload", "llmsup.service")
	p.awaitServed()
	p.must("dpkg-reconfigure", "--force", "llmsup")
	if status, _ := p.try("test", "-e", dropIn); (status == 0) == p.hasNotifyReload() {
		p.t.Errorf("the drop-in is there: %t", status == 0)
	}
	p.awaitServed()
}

func (p *packaged) remove() {
	p.must("systemctl", "mask", "llmsup.service") // systemctl disable leaves the links of a masked unit
	p.must("apt-get", "remove", "--yes", "llmsup")
	p.must("systemctl", "unmask", "llmsup.service")
	p.wantNoProcess()
	if _, err := p.call(newConnections, "local/demo"); err == nil {
		p.t.Error("a call is answered")
	}
	if links := p.must("find", "/etc/systemd/system", "-type", "l", "-name", "llmsup*"); links != "" {
		p.t.Errorf("links are left: %s", links)
	}
	p.must("test", "-s", configFile, "-a", "-s", "/etc/llmsup/credentials/openrouter", "-a", "-d", "/var/lib/llmsup/servers", "-a", "!", "-e", "/usr/bin/llmsup")
}

func (p *packaged) purge() {
	p.must("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "purge", "--yes", "llmsup")
	out := p.must("find", "/etc", "/usr", "/var/lib", "/run", "-name", "*llmsup*", "-not", "-path", "/run/systemd/*", "-not", "-path", "/run/log/*", "-not", "-path", "/var/lib/apt/*")
	if out != "" {
		p.t.Errorf("left after the purge: %s", out)
	}
	p.must("getent", "passwd", "llmsup") // files elsewhere may belong to it
}
