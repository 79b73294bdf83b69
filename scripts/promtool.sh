#!/usr/bin/env bash
# Prints the path of a working promtool, and nothing else, on stdout: what the tests check the metrics and the alerts with.
#
# In this order: $LLMSUP_TEST_PROMTOOL, PATH's own, one in the cache, one put into the cache from the distribution's package
# `prometheus`. The last needs apt and its network, no root, about 20 MB of download, and happens once.
# Remove the cache's folder to get a newer one: ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/promtool.
set -euo pipefail

say() { printf 'promtool.sh: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

own='install it yourself and put it on PATH: https://prometheus.io/download/'

runs() { timeout 60 "$1" --version </dev/null >/dev/null 2>&1; }

# download FOLDER: gets the package from the release that this machine runs, so that its libraries fit. What apt knows of the
# mirrors may be nothing, or old: then it is asked again, with lists that are not the machine's.
download() {
	local to=$1 get
	{ command -v apt-get && command -v dpkg-deb; } >/dev/null || die "there is no promtool on PATH, and no apt to get one with: $own"
	say "getting promtool from the distribution's package prometheus, once (about 20 MB)"
	mkdir -p "$to/lists/partial"
	get=(apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3)
	if (cd "$to" && "${get[@]}" download prometheus) </dev/null >>"$to/log" 2>&1; then return; fi
	get+=(-o Dir::State::lists="$to/lists" -o Dir::Cache="$to" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none)
	if (cd "$to" && "${get[@]}" update && "${get[@]}" download prometheus) </dev/null >>"$to/log" 2>&1; then return; fi
	grep '^[EW]:' "$to/log" | tail -n 5 >&2 || tail -n 5 "$to/log" >&2
	die "could not get the package prometheus: see apt's lines above and try again, or $own"
}

if [[ -n ${LLMSUP_TEST_PROMTOOL:-} ]]; then
	found=$(type -P -- "$LLMSUP_TEST_PROMTOOL") || die "LLMSUP_TEST_PROMTOOL names $LLMSUP_TEST_PROMTOOL, which is no program: correct it or unset it"
	realpath -s -- "$found"
	exit
fi
if found=$(type -P promtool); then
	realpath -s -- "$found"
	exit
fi

[[ -n ${HOME:-} ]] || unset HOME # then ~ is what the system knows of this user
home=~
cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$home/.cache}/llmsup}/promtool
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
made=$cache/$(dpkg --print-architecture 2>/dev/null || uname -m)/promtool

if ! [[ -x $made ]]; then
	{ mkdir -p "$cache" && exec 9>"$cache/lock"; } 2>/dev/null || die "cannot write to $cache: set LLMSUP_CACHE_DIR to a folder of yours"
	flock 9
	if ! [[ -x $made ]]; then # still so, now that nobody else is at it
		rm -rf "$cache"/.new.*
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		download "$new"
		dpkg-deb --fsys-tarfile "$new"/prometheus_*.deb | tar -x -C "$new" ./usr/bin/promtool # not the 50 MB beside it
		runs "$new/usr/bin/promtool" || die "the promtool of the package fails at --version on this machine: $own"
		mkdir -p "${made%/*}"
		mv -T "$new/usr/bin/promtool" "$made"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
