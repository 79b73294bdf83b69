#!/usr/bin/env bash
# scripts/install.sh [--binary PATH] [--no-start]
# scripts/install.sh --uninstall [--purge]
#
# Installs llmsup as a systemd service on Debian or Ubuntu, as root: builds the binary, or takes the one that is named, and puts
# it into /usr/local/bin; the units, the user llmsup, shell completion and the manual page; then starts it, or restarts it
# without a failed call. Asks nothing, and may be run again. A configuration that is there is kept. --uninstall takes all of it
# away but configuration, credentials and state; with --purge these too.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

program=/usr/local/bin/llmsup
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
		(($# > 1)) || die "--binary wants the path of a llmsup"
		binary=$2
		shift
		;;
	--binary=*) binary=${1#*=} ;;
	--no-start) start= ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	*) die "it takes --binary PATH, --no-start, --uninstall and --purge, and not $1" ;;
	esac
	shift
done
[[ -z ${purge:-} || $action == uninstall ]] || die "--purge goes with --uninstall"
[[ $(id -u) == 0 ]] || die "this needs root: sudo $0"
command -v systemctl >/dev/null || die "there is no systemd here; scripts/run.sh runs llmsup without it"

# booted says whether systemd runs this machine: in an image that is being made it does not.
booted() { [[ -d /run/systemd/system ]]; }

if [[ $action == uninstall ]]; then
	if booted; then systemctl --quiet stop llmsup.socket llmsup.service 2>/dev/null || true; fi
	systemctl --quiet disable llmsup.socket llmsup.service 2>/dev/null || true
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
		say "llmsup is gone; /etc/llmsup, /var/lib/llmsup and the user llmsup stay (--uninstall --purge takes them away)"
	else
		say "llmsup is gone, with its configuration, its state and its user"
	fi
	exit
fi

new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
if [[ -n $binary ]]; then
	[[ -f $binary ]] || die "there is no file $binary"
	cp -- "$binary" "$new/llmsup"
else
	need_home
	need_go
	[[ ${CGO_ENABLED:-} == 0 ]] || need_gcc
	version=$(git --no-optional-locks -c safe.directory="$root" -C "$root" describe --tags --always --dirty 2>/dev/null || echo dev)
	say "building llmsup $version"
	(cd "$root" && go build -buildvcs=false -ldflags "-X main.version=$version" -o "$new/llmsup" ./cmd/llmsup) || die "the build failed; see above"
fi
chmod 755 "$new/llmsup"
"$new/llmsup" --version >/dev/null || die "$binary is no llmsup that runs here"

# put FILE PATH [MODE] installs a file whole or not at all: what runs now goes on with the old one.
put() {
	mkdir -p "${2%/*}"
	install -m "${3:-644}" "$1" "$2.new.$$"
	mv -f "$2.new.$$" "$2"
}

# What systemd before 253 does not know is said in its own words.
cp "$root"/systemd/llmsup.{service,socket} "$new/"
have=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')
if ((have < 253)); then
	# shellcheck disable=SC2016 # systemd's own variable
	sed -i 's|^Type=notify-reload$|Type=notify\nExecReload=/bin/kill -HUP $MAINPID|' "$new/llmsup.service"
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
	rm -f "$config.example"
elif cmp -s "$root/systemd/llmsup.yaml" "$config"; then
	rm -f "$config.example"
else
	put "$root/systemd/llmsup.yaml" "$config.example"
	say "$config is kept as it is; today's example is $config.example"
fi
systemd-tmpfiles --create "$tmpfiles"
for shell in bash zsh fish; do
	"$program" completion "$shell" >"$new/$shell"
done
put "$new/bash" "$bash_completion"
put "$new/zsh" "$zsh_completion"
put "$new/fish" "$fish_completion"
"$program" man >"$new/man"
put "$new/man" "$man_page"

systemctl --quiet enable llmsup.socket llmsup.service
if booted; then
	systemctl daemon-reload
	if [[ -n $start ]]; then
		# The socket stays open if it is, and with it the port.
		systemctl start llmsup.socket || die "another program has the port of llmsup.socket: end it, or give the socket another one (systemctl edit llmsup.socket)"
		systemctl restart llmsup.service || die "llmsup does not start: journalctl -u llmsup -e says why"
	fi
fi

say "installed; what is still missing, if anything:"
[[ -s $key ]] || say "no key for OpenRouter: put it into $key, mode 600, and systemctl restart llmsup"
# As the service is given it.
CREDENTIALS_DIRECTORY=${key%/*} "$program" check --config "$config" || say "mend what is wrong above in $config, then systemctl reload llmsup"
