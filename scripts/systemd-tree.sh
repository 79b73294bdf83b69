#!/usr/bin/env bash
# scripts/systemd-tree.sh [SUITE]
#
# Prints the path of a minimal Debian with systemd on stdout, and nothing else (SUITE: stable, testing, ...; on Ubuntu it is an Ubuntu).
# The tests boot it in a container, without writing to it. Needs root, and once apt and the network (60 MB, one or two minutes): it is kept in the cache. Installs
# debootstrap and systemd-container if they are missing.
# Remove the folder in the cache to get a newer one: ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/systemd-tree.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"
# shellcheck source=scripts/mirror.sh
. "$root/scripts/mirror.sh"

# The packages of the tree; another list creates another tree.
packages=systemd,systemd-sysv,dbus,bash-completion,man-db

wanted=${1:-stable}
[[ $(id -u) == 0 ]] || die "this needs root, to boot a systemd: sudo $0"
need_home
for program in debootstrap systemd-nspawn; do
	if command -v "$program" >/dev/null; then continue; fi
	package=${program/systemd-nspawn/systemd-container}
	install_packages "$package" || true
	command -v "$program" >/dev/null || die "no $program: apt-get install $package"
done

cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/systemd-tree
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
made=$cache/$(dpkg --print-architecture)-$(cksum <<<"$packages" | cut -d' ' -f1)
if [[ $wanted != stable ]]; then made=$made-$wanted; fi

if [[ ! -e $made/usr/lib/systemd/systemd ]]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	if [[ ! -e $made/usr/lib/systemd/systemd ]]; then # check again, with the lock
		read -r kind url < <(mirror) || die "apt's sources have no mirror of Debian or Ubuntu"
		suite=$wanted
		# shellcheck source=/dev/null
		if [[ $kind == ubuntu ]]; then suite=$(. /etc/os-release && echo "$VERSION_CODENAME"); fi # not tested
		rm -rf "$cache"/.new.*
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		chmod 755 "$new"
		bootstrap() { debootstrap --variant=minbase --include="$packages" "$suite" "$new/tree" "$url" >"$new/log" 2>&1; }
		if ! during "creating a minimal $kind $suite to boot" "about 60 MB, once; usually 1 to 2 minutes" bootstrap; then
			tail -n 5 "$new/log" >&2
			die "could not create it from $url: see debootstrap's lines above, and try again"
		fi
		rm -rf "$new"/tree/var/cache/apt/archives/*.deb "$new"/tree/var/lib/apt/lists/* "$new/tree/etc/machine-id"
		touch "$new/tree/etc/machine-id" # systemd writes a new one at each boot
		mv -T "$new/tree" "$made"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
