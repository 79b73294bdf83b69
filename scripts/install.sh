#!/usr/bin/env bash
# scripts/install.sh [--binary PATH] [--no-start]
# scripts/install.sh --uninstall [--purge]
#
# Installs llmsup as a systemd service on Debian or Ubuntu, as root:
# - builds llmsup, or takes the one that --binary names, into /usr/local/bin;
# - copies the llama-server that scripts/llama-server.sh finds or downloads to
#   /usr/local/lib/llmsup, and links it into /usr/local/bin, unless one is on
#   PATH there or llmsup.yaml names one;
# - installs the units, the user llmsup, shell completion and the manual page;
# - checks the configuration as the service's user;
# - starts llmsup, or restarts it without a failed call (--no-start: neither).
# It asks nothing, and may be run again. An existing configuration stays as it is.
#
# --uninstall removes all of it but configuration, credentials and state; with
# --purge these too.
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
		[[ -n ${2:-} ]] || die "--binary wants the path of a llmsup"
		binary=$2
		shift
		;;
	--binary=?*) binary=${1#*=} ;;
	--no-start) start= ;;
	--uninstall) action=uninstall ;;
	--purge) purge=yes ;;
	-h | --help) usage ;;
	*) die "it takes --binary PATH, --no-start, --uninstall and --purge, and not $1" ;;
	esac
	shift
done
[[ -z ${purge:-} || $action == uninstall ]] || die "--purge goes with --uninstall"
[[ $(id -u) == 0 ]] || die "this needs root: sudo $0"
command -v systemctl >/dev/null || die "there is no systemd here; scripts/run.sh runs llmsup without it"
umask 022 # the service's user reads what is installed; files with secrets have modes of their own

# booted reports whether systemd runs this machine: in an image that is being made it does not.
booted() { [[ -d /run/systemd/system ]]; }

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
		say "llmsup is uninstalled; /etc/llmsup, /var/lib/llmsup and the user llmsup stay (--uninstall --purge removes them)"
	else
		say "llmsup is uninstalled, with its configuration, its state and its user"
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
	need_go ./cmd/llmsup
	[[ ${CGO_ENABLED:-} == 0 ]] || need_gcc
	compile "$new/llmsup"
fi
chmod 755 "$new/llmsup"
answer=$(timeout 20 "$new/llmsup" --version 2>&1 </dev/null) || true
[[ $answer != *"Permission denied"* ]] || die "no program can be run in ${new%/*}: set TMPDIR to a folder that is not mounted noexec; nothing was installed"
[[ $answer == "llmsup version "* ]] || die "${binary:-what was built} is not a llmsup that runs here: its --version printed \"${answer%%$'\n'*}\"; nothing was installed"

# put FILE PATH [MODE] installs a file whole or not at all; a process that runs keeps the old one.
put() {
	mkdir -p "${2%/*}"
	install -m "${3:-644}" "$1" "$2.new.$$"
	mv -f "$2.new.$$" "$2"
}

# put_engine copies the llama-server that scripts/llama-server.sh made to where the service's user can read it, and links it to
# the service's PATH. A llama-server that is on that PATH stays the one.
put_engine() {
	local path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin cache=${LLMSUP_CACHE_DIR:-} home found
	if [[ -z $cache && -n ${SUDO_USER:-} ]]; then # what scripts/run.sh downloaded for this user
		home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
		for found in "$home"/.cache/llmsup/llama-server/*/llama-server; do
			if [[ -x $found ]]; then cache=$home/.cache/llmsup; fi
		done
	fi
	found=$(PATH=$path LLMSUP_LLAMA_SERVER='' LLMSUP_CACHE_DIR=$cache "$root/scripts/llama-server.sh") || return
	note_gpu "$found" "name one built with CUDA in $config, as llama_server: PATH"
	if ! from_packages "$found" || [[ $(realpath -- "$found") == "$engine" ]]; then return; fi # it is installed already
	say "copying $found to ${engine%/*}"
	mkdir -p "${engine%/llama-server/*}" &&
		rm -rf "${engine%/*}.new" &&
		cp -R --preserve=mode,links,timestamps "$(realpath -- "${found%/*}")" "${engine%/*}.new" &&
		chmod -R a+rX "${engine%/*}.new" &&
		rm -rf "${engine%/*}" &&
		mv -T "${engine%/*}.new" "${engine%/*}" || return
	if [[ -e $engine_link && ! $engine_link -ef $engine ]]; then
		say "$engine_link fails at --version: remove it, or name another one in $config, as in llama_server: $engine"
	else
		ln -sfn "$engine" "$engine_link"
	fi
}

# check runs llmsup check as the unit runs llmsup: as its user, with its credential, and with no more files and devices.
check() {
	local line properties=() hide=() credentials=$new/credentials home
	if booted; then
		# Nothing that may hold a secret, since these are arguments of a process.
		while IFS= read -r line; do
			properties+=(-p "$line")
		done < <(systemctl cat llmsup.service | sed -nE '/^(User|Group|SupplementaryGroups|UMask|Environment(File=|="?LLMSUP_)|LoadCredential(Encrypted)?|SetCredential=[a-z]+:\\n$|(State|Runtime)Directory(Mode)?|Device(Policy|Allow)|(Protect|Private)[A-Za-z]*|(ReadOnly|ReadWrite|Inaccessible|Bind|BindReadOnly)Paths|TemporaryFileSystem)/p')
		systemd-run --quiet --wait --pipe --collect "${properties[@]}" -p RuntimeDirectoryPreserve=yes "$program" check --config "$config"
		return
	fi
	install -d -o llmsup -g llmsup -m 700 /var/lib/llmsup /run/llmsup "$credentials"
	chmod 711 "$new"
	if [[ -s $key ]]; then install -o llmsup -m 400 "$key" "$credentials/openrouter"; else echo >"$credentials/openrouter"; fi
	# An image is made where mounts may be forbidden: then the check sees homes, which the service does not.
	if unshare --mount true 2>/dev/null; then
		# shellcheck disable=SC2016 # the other shell's
		hide=(unshare --mount sh -c 'for home in /home /root /run/user; do [ ! -d "$home" ] || mount -t tmpfs -o mode=0 tmpfs "$home"; done; exec "$@"' sh)
	fi
	(cd / && ${hide[@]+"${hide[@]}"} setpriv --reuid=llmsup --regid=llmsup --init-groups env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin \
		HOME=/var/lib/llmsup CREDENTIALS_DIRECTORY="$credentials" "$program" check --config "$config")
}

# Older versions of systemd warn of what they do not know.
cp "$root"/systemd/llmsup.{service,socket} "$new/"
have=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')
if ((have < 253)); then
	# shellcheck disable=SC2016 # systemd's own variable
	sed -i 's|^Type=notify-reload$|Type=notify\nExecReload=/bin/kill -HUP $MAINPID|' "$new/llmsup.service"
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
	say "$config is kept as it is; $config.example has every key"
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
	put_engine || say "there is no llama-server for the service; without servers in $config it needs none"
fi
[[ -s $key ]] || say "there is no key for OpenRouter: put it into $key, mode 600, and systemctl restart llmsup"

systemctl --quiet enable llmsup.socket llmsup.service
if booted; then systemctl daemon-reload; fi
say "llmsup check, as the service's user:"
if ! check; then
	if grep -Eq '(^|[^A-Za-z0-9_])/(home|root|run/user)/' "$config"; then
		say "the service sees no files in homes: move the model and llama-server out of /home and /root, for example to /srv/models"
	fi
	say "correct the errors above in $config, then: systemctl restart llmsup"
	if ! booted || [[ -z $start ]]; then exit; fi
	die "llmsup is installed, and was not started$(systemctl --quiet is-active llmsup.service && echo " again: what ran goes on")"
fi
if ! booted || [[ -z $start ]]; then
	say "ok: llmsup is installed"
	exit
fi
# The socket stays open if it is, and with it the port.
systemctl start llmsup.socket || die "another program has the port of llmsup.socket: end it, or give the socket another one (systemctl edit llmsup.socket)"
systemctl restart llmsup.service || die "llmsup does not start; journalctl -u llmsup -e shows why"
say "ok: llmsup is installed and runs"
