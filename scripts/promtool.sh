#!/usr/bin/env bash
# scripts/promtool.sh
#
# Prints the path of a working promtool on stdout, and nothing else. The tests
# check the metrics and alerts with it. It uses the first of these:
# - $LLMSUP_TEST_PROMTOOL;
# - promtool on PATH;
# - the one in the cache folder;
# - one that it unpacks there from the distribution's packages, once: that needs apt,
#   the network and 20 MB of download, but no root.
# The cache folder is
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/promtool.
# Remove it to get a newer promtool.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

case ${1:-} in
'') ;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac

own='install it yourself and put it on PATH: https://prometheus.io/download/'

runs() { timeout 60 "$1" --version </dev/null >/dev/null 2>&1; }

# download FOLDER downloads the package with promtool: promtool since Debian 13, prometheus before. It comes from the release of this
# machine, so that its libraries fit. If apt has no package lists, or old ones, it tries again with its own lists.
download() {
	local to=$1 get
	get=(apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3)
	mkdir -p "$to/lists/partial"
	cd "$to"
	if one_of promtool prometheus; then return; fi
	get+=(-o Dir::State::lists="$to/lists" -o Dir::Cache="$to" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none)
	if "${get[@]}" update && one_of promtool prometheus; then return; fi
	return 1
}

# one_of PACKAGE... downloads the first package that exists.
one_of() {
	local package
	for package; do
		if "${get[@]}" download "$package"; then return; fi
	done
	return 1
}

if [[ -n ${LLMSUP_TEST_PROMTOOL:-} ]]; then
	found=$(type -P -- "$LLMSUP_TEST_PROMTOOL") || die "LLMSUP_TEST_PROMTOOL is $LLMSUP_TEST_PROMTOOL, which is not a program: correct it or unset it"
	realpath -s -- "$found"
	exit
fi
if found=$(type -P promtool); then
	realpath -s -- "$found"
	exit
fi

need_home
cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/promtool
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
made=$cache/$(dpkg --print-architecture 2>/dev/null || uname -m)/promtool

if ! [[ -x $made ]]; then
	{ mkdir -p "$cache" && exec 9>"$cache/lock"; } 2>/dev/null || die "cannot write to $cache: set LLMSUP_CACHE_DIR to a writable folder"
	flock --nonblock 9 || during "waiting for another promtool.sh" "usually less than a minute" flock 9
	if ! [[ -x $made ]]; then # check again, with the lock
		rm -rf "$cache"/.new.*
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		{ command -v apt-get && command -v dpkg-deb; } >/dev/null || die "no promtool on PATH, and no apt to download one: $own"
		during "downloading promtool from the distribution's packages" "about 20 MB, once; usually 5 to 30 s" download "$new" ||
			die "could not download the package promtool or prometheus: see apt's lines above and try again, or $own"
		dpkg-deb --fsys-tarfile "$new"/prom*.deb | tar -x -C "$new" ./usr/bin/promtool # without the other 50 MB
		runs "$new/usr/bin/promtool" || die "the promtool of the package fails with --version on this machine: $own"
		mkdir -p "${made%/*}"
		mv -T "$new/usr/bin/promtool" "$made"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
