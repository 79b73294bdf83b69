#!/usr/bin/env bash
# scripts/install.sh [--binary PATH] [--no-start]
# scripts/install.sh --uninstall [--purge]
#
# Installs llmsup as a systemd service on Debian or Ubuntu. Needs root. It
# - builds llmsup, or copies the one of --binary or of a release's tarball, to
#   /usr/local/bin;
# - copies the llama-server that scripts/llama-server.sh finds or downloads to
#   /usr/local/lib/llmsup, and links it into /usr/local/bin, unless one is on
#   PATH there or llmsup.yaml names one;
# - installs the units, the user llmsup, shell completion and the manual page;
# - checks the configuration as the service's user;
# - starts llmsup, or restarts it without a failed call (--no-start: neither).
# It asks no questions and can be run again. An existing configuration stays
# unchanged. It refuses if llmsup is installed as a package (scripts/package.sh).
#
# --uninstall removes all of this except configuration, credentials and state;
# with --purge also these.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

program=/usr/local/bin/llmsup
engine=/usr/local/lib/llmsup/llama-server/llama-server
engine_link=/usr/local/bin/llama-server
units=/etc/systemd/system
sysusers=/etc/sysusers.d/llmsup.conf
tmpfiles=/etc/tmpfiles.d/llmsup.conf
bash_completion=/usr/share/bash-completion/completions/llmsup
zsh_completion=/usr/local/share/zsh/site-functions/_llmsup
fish_completion=/usr/share/fish/vendor_completions.d/llmsup.fish
man_page=/usr/local/share/man/man1/llmsup.1
config=/etc/llmsup/llmsup.yaml
key=/etc/llmsup/credentials/openrouter

binary=
start=yes
action=install
while (($#)); do
	case $1 in
	--binary)
		[[ -n ${2:-} ]] || die "--binary needs the path of a llmsup"
		binary=$2
		shift
		;;
	--binary=?*) binary=${1#*=} ;;
	--no-start) start= ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	-h | --help) usage ;;
	*) die "unknown argument $1: it takes --binary PATH, --no-start, --uninstall and --purge" ;;
	esac
	shift
done
[[ -z ${purge:-} || $action == uninstall ]] || die "--purge needs --uninstall"
[[ $(id -u) == 0 ]] || die "this needs root: sudo $0"
command -v systemctl >/dev/null || die "no systemctl: scripts/run.sh runs llmsup without systemd"
umask 022 # the service's user can read what is installed; files with secrets get their own mode

# booted reports whether systemd runs this machine, which it does not while an image is built.
booted() { [[ -d /run/systemd/system ]]; }

if [[ -e /usr/lib/systemd/system/llmsup.service ]]; then # files of both have the same paths
	die "llmsup is installed as a package. Upgrade or remove that, for example with apt-get; removing it keeps the configuration and the state"
fi

if [[ $action == uninstall ]]; then
	if booted; then systemctl --quiet stop llmsup.socket llmsup.service 2>/dev/null || true; fi
	systemctl --quiet disable llmsup.socket llmsup.service 2>/dev/null || true
	if [[ $(readlink "$engine_link") == "$engine" ]]; then rm -f "$engine_link"; fi
	rm -rf "${engine%/llama-server/*}"
	rm -f "$program" "$units"/llmsup.{service,socket} "$sysusers" "$tmpfiles" "$bash_completion" "$zsh_completion" "$fish_completion" \
		"$man_page" "$config.example"
	if [[ -n ${purge:-} ]]; then
		rm -rf /etc/llmsup /var/lib/llmsup "$units"/llmsup.{service,socket}.d
		if getent passwd llmsup >/dev/null; then userdel llmsup; fi
		if getent group llmsup >/dev/null; then groupdel llmsup; fi
	fi
	if booted; then
		systemctl daemon-reload
		systemctl --quiet reset-failed llmsup.socket llmsup.service 2>/dev/null || true
	fi
	if [[ -z ${purge:-} ]]; then
		log "llmsup is uninstalled; /etc/llmsup, /var/lib/llmsup and the user llmsup were kept (--uninstall --purge removes them)"
	else
		log "llmsup is uninstalled, including its configuration, state and user"
	fi
	exit
fi

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
if [[ -z $binary && ! -e $root/go.mod ]]; then binary=$root/llmsup; fi # the tarball of package.sh
if [[ -n $binary ]]; then
	[[ -f $binary ]] || die "no file $binary"
	cp -- "$binary" "$new/llmsup"
else
	need_home
	need_go ./cmd/llmsup
	[[ ${CGO_ENABLED:-} == 0 ]] || need_gcc
	compile "$new/llmsup"
fi
chmod 755 "$new/llmsup"
answer=$(timeout 20 "$new/llmsup" --version 2>&1 </dev/null) || true
[[ $answer != *"Permission denied"* ]] || die "cannot run programs in ${new%/*}: set TMPDIR to a folder that is not mounted noexec; nothing was installed"
[[ $answer == "llmsup version "* ]] || die "${binary:-what was built} is not a llmsup that runs here: its --version printed \"${answer%%$'\n'*}\"; nothing was installed"

# put FILE PATH [MODE] installs a file atomically; running processes keep the old one.
put() {
	mkdir -p "${2%/*}"
	install -m "${3:-644}" "$1" "$2.new.$$"
	mv -f "$2.new.$$" "$2"
}

# Older versions of systemd warn about unknown settings.
cp "$root"/systemd/llmsup.{service,socket} "$new/"
have=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')
if ((have < 253)); then
	# shellcheck disable=SC2016 # systemd's own variable
	sed -i 's|^Type=notify-reload$|Type=notify\nExecReload=/bin/sh -c "kill -HUP $MAINPID"|' "$new/llmsup.service"
fi
if ((have < 254)); then
	sed -i -E '/^Restart(Steps|MaxDelaySec)=/d' "$new/llmsup.service"
fi

put "$root/systemd/llmsup.sysusers" "$sysusers"
put "$root/systemd/llmsup.tmpfiles" "$tmpfiles"
systemd-sysusers "$sysusers"
put "$new/llmsup" "$program" 755
put "$new/llmsup.service" "$units/llmsup.service"
put "$new/llmsup.socket" "$units/llmsup.socket"
mkdir -p /etc/llmsup
if [[ ! -e $config ]]; then
	put "$root/systemd/llmsup.yaml" "$config" 640
elif ! cmp -s "$root/systemd/llmsup.yaml" "$config"; then
	log "$config is kept as it is; $config.example has every key"
fi
put "$root/systemd/llmsup.yaml.example" "$config.example"
systemd-tmpfiles --create "$tmpfiles"
for shell in bash zsh fish; do
	"$program" completion "$shell" >"$new/$shell"
done
put "$new/bash" "$bash_completion"
put "$new/zsh" "$zsh_completion"
put "$new/fish" "$fish_completion"
"$program" man >"$new/man"
put "$new/man" "$man_page"

if ! grep -q '^llama_server:' "$config"; then
	"$root/scripts/service-llama-server.sh" || log "the service has no llama-server; it needs one only for servers in $config"
fi
[[ -s $key ]] || log "no key for OpenRouter: write it to $key, mode 600, then: systemctl restart llmsup"

systemctl --quiet enable llmsup.socket llmsup.service
if booted; then systemctl daemon-reload; fi
log "llmsup check, as the service's user:"
if ! "$root/scripts/service-check.sh"; then
	if grep -Eq '(^|[^A-Za-z0-9_])/(home|root|run/user)/' "$config"; then
		log "the service cannot read home folders: move the model and llama-server out of /home and /root, for example to /srv/models"
	fi
	log "correct the errors above in $config, then: systemctl restart llmsup"
	if ! booted || [[ -z $start ]]; then exit; fi
	die "llmsup is installed but was not $(systemctl --quiet is-active llmsup.service && echo "restarted: the old process still runs" || echo started)"
fi
if ! booted || [[ -z $start ]]; then
	log "ok: llmsup is installed"
	exit
fi
# A running socket keeps the port open.
systemctl start llmsup.socket || die "another program has the port of llmsup.socket: end it, or give the socket another one (systemctl edit llmsup.socket)"
systemctl restart llmsup.service || die "llmsup did not start; journalctl -u llmsup -e shows why"
log "ok: llmsup is installed and runs"
