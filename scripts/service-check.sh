#!/usr/bin/env bash
# scripts/service-check.sh [CONFIG]
#
# Runs llmsup check on /etc/llmsup/llmsup.yaml (or CONFIG) as the unit
# llmsup.service runs llmsup: as its user, with its credential, and with the files
# and devices that it may use. Needs root, and the unit and the user to be
# installed. The exit code is that of llmsup check: 1 if there is an error.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

case ${1:-} in
-h | --help) usage ;;
-*) die "unknown argument $1: it takes CONFIG; see --help" ;;
esac
config=${1:-/etc/llmsup/llmsup.yaml}
key=/etc/llmsup/credentials/openrouter
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
[[ $(id -u) == 0 ]] || die "this needs root: sudo $0"
program=$(PATH=$path type -P llmsup) || die "no llmsup in /usr/local/bin and /usr/bin: install it first"

if [[ -d /run/systemd/system ]]; then # systemd runs this machine
	# Leave out settings that may have secrets, since other users can read the arguments of a process.
	properties=()
	while IFS= read -r line; do
		properties+=(-p "$line")
	done < <(systemctl cat llmsup.service | sed -nE '/^(User|Group|SupplementaryGroups|UMask|Environment(File=|="?LLMSUP_)|LoadCredential(Encrypted)?|SetCredential=[a-z]+:\\n$|(State|Runtime)Directory(Mode)?|Device(Policy|Allow)|(Protect|Private)[A-Za-z]*|(ReadOnly|ReadWrite|Inaccessible|Bind|BindReadOnly)Paths|TemporaryFileSystem)/p')
	exec systemd-run --quiet --wait --pipe --collect "${properties[@]}" -p RuntimeDirectoryPreserve=yes "$program" check --config "$config"
fi

# An image is being built.
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
chmod 711 "$new"
credentials=$new/credentials
install -d -o llmsup -g llmsup -m 700 /var/lib/llmsup /run/llmsup "$credentials"
if [[ -s $key ]]; then install -o llmsup -m 400 "$key" "$credentials/openrouter"; else echo >"$credentials/openrouter"; fi
# Mounts may be forbidden there. Then the check can read homes, which the service cannot.
hide=()
if unshare --mount true 2>/dev/null; then
	# shellcheck disable=SC2016 # the other shell's
	hide=(unshare --mount sh -c 'for home in /home /root /run/user; do [ ! -d "$home" ] || mount -t tmpfs -o mode=0 tmpfs "$home"; done; exec "$@"' sh)
fi
cd /
${hide[@]+"${hide[@]}"} setpriv --reuid=llmsup --regid=llmsup --init-groups env -i PATH="$path" \
	HOME=/var/lib/llmsup CREDENTIALS_DIRECTORY="$credentials" "$program" check --config "$config"
