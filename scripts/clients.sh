#!/usr/bin/env bash
# scripts/clients.sh [--can-install | --axe]
#
# Prints the folder with the clients that the tests of cmd/llmsup run against
# llmsup (SDKs, Claude Code, Codex, ...), and nothing else. It is the first of these:
# - $LLMSUP_TEST_CLIENTS;
# - the one in the cache folder for scripts/clients/package-lock.json;
# - one that npm installs there from its registry, once: that needs node 20 or newer,
#   npm, and 350 MB of download, but no root. No install script of a package runs.
# The cache folder is
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/clients.
# Remove it to get back 1 GB of disk.
#
# With --axe it is the folder with axe-core (scripts/clients/axe), which the tests of the page run in Chromium: 3 MB of download;
# LLMSUP_TEST_AXE and the folder axe of the cache take the place of the above.
#
# With --can-install it prints nothing: the exit code is 0 if node and npm are new enough.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

can_install() { command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; } >/dev/null 2>&1

what=clients label='the clients of the tests' from=$root/scripts/clients given=${LLMSUP_TEST_CLIENTS:-} variable=LLMSUP_TEST_CLIENTS size="about 350 MB, once; usually 20 s to 2 minutes"
case ${1:-} in
'') ;;
--axe) what=axe label=axe-core from=$root/scripts/clients/axe given=${LLMSUP_TEST_AXE:-} variable=LLMSUP_TEST_AXE size="about 3 MB, once; usually some seconds" ;;
--can-install)
	can_install
	exit
	;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac

# install FOLDER installs exactly the versions of the lock file, and checks their hashes.
install() { (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier); }

if [[ -n $given ]]; then
	[[ -d $given/node_modules ]] || die "$variable is $given, which has no node_modules: correct it or unset it"
	realpath -s -- "$given"
	exit
fi
can_install || die "$label: this needs npm and node 20 or newer: install them"

need_home
cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/$what
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
lock=$(sha256sum "$from/package-lock.json")
made=$cache/$(uname -m)-${lock:0:16}

if ! [[ -d $made ]]; then
	{ mkdir -p "$cache" && exec 9>"$cache/lock"; } 2>/dev/null || die "cannot write to $cache: set LLMSUP_CACHE_DIR to a writable folder"
	flock --nonblock 9 || during "waiting for another clients.sh" "usually less than a minute" flock 9
	if ! [[ -d $made ]]; then # check again, with the lock
		rm -rf "$cache"/.new.*
		find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm -rf {} + # of other versions of the lock file
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		cp "$from"/{package.json,package-lock.json,.npmrc} "$new"
		during "installing $label with npm" "$size" install "$new" ||
			die "npm could not install $label: see above and try again"
		chmod 755 "$new"
		mv -T "$new" "$made"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
