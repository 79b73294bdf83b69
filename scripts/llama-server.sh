#!/usr/bin/env bash
# scripts/llama-server.sh
#
# Prints the path of a working llama-server on stdout, and nothing else. It uses
# the first of these:
# - $LLMSUP_LLAMA_SERVER;
# - llama-server on PATH;
# - the one in the cache folder;
# - one that it unpacks there from the distribution's packages, once: that needs
#   apt, the network and 25 MB of download, but no root. It runs on the CPU.
# The cache folder is
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/llama-server.
# Remove it to get a newer llama-server.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"
# shellcheck source=scripts/mirror.sh
. "$root/scripts/mirror.sh"

case ${1:-} in
'') ;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac

own='install llama-server yourself and put it on PATH: https://github.com/ggml-org/llama.cpp'

# runs FILE reports whether a llama-server runs on this machine.
runs() { timeout 60 "$1" --version </dev/null >/dev/null 2>&1; }

# computes FILE reports whether our llama-server finds a CPU backend. Others may have it linked in.
computes() {
	local out try
	for try in 1 2 3 4 5; do # it logs in a separate thread, and on a busy machine may exit before the last lines
		out=$(timeout 60 "$1" -v --list-devices </dev/null 2>&1) || return
		if [[ $out == *loaded*libggml-cpu* ]]; then return; fi
	done
	return 1
}

# unpack FOLDER downloads llama-server and its dependencies, with a separate apt state, and unpacks them to FOLDER/root.
unpack() {
	local to=$1 apt=$1/apt kind url suites components suite keyring signed='' arch package deb
	{ command -v apt-get && command -v dpkg; } >/dev/null || die "no llama-server on PATH, and no apt to download one: $own"
	read -r kind url < <(mirror) || die "apt's sources have no mirror of Debian or Ubuntu: $own"
	arch=$(dpkg --print-architecture)
	case $kind in
	debian) suites='testing unstable' components='main' ;; # a package can be out of testing for some weeks
	ubuntu) suites='devel' components='main universe' ;; # not tested: written from Ubuntu's documentation
	esac
	for keyring in /usr/share/keyrings/"$kind"-archive-keyring.{gpg,pgp}; do
		if [[ -r $keyring ]]; then signed=" signed-by=$keyring" && break; fi
	done

	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	# Packages that only the setup of llama.cpp-tools needs count as installed.
	for package in debconf wget curl; do
		printf '%s\n' "Package: $package" 'Status: install ok installed' 'Version: 999:1' "Architecture: $arch" \
			'Multi-Arch: foreign' 'Maintainer: none' 'Description: none' ''
	done >"$apt/status"
	# Ignore the machine's hooks, pins and exceptions.
	cat >"$apt/conf" <<-'END'
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear AptCli::Hooks;
		APT::Default-Release "";
		APT::Sandbox::User "root";
		APT::Get::AllowUnauthenticated "false";
		Acquire::AllowInsecureRepositories "false";
		Acquire::AllowWeakRepositories "false";
		Acquire::AllowDowngradeToInsecureRepositories "false";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
		Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
	END
	local get=(apt-get -qq -c "$apt/conf" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status"
		-o Dir::State::extended_states="$apt/extended" -o Dir::Cache="$apt/cache" -o Dir::Cache::archives=archives
		-o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin -o Dir::Log="$apt"
		-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null)

	for suite in $suites; do
		printf 'deb [arch=%s%s] %s %s %s\n' "$arch" "$signed" "$url" "$suite" "$components" >"$apt/sources.list"
		rm -f "$apt"/cache/*.bin
		"${get[@]}" update >>"$apt/log" 2>&1 || break
		if "${get[@]}" install --download-only --yes --no-install-recommends -o APT::Install-Suggests=false llama.cpp-tools >>"$apt/log" 2>&1; then
			mkdir "$to/root"
			for deb in "$apt"/cache/archives/*.deb; do dpkg -x "$deb" "$to/root" || die "could not unpack ${deb##*/}; see above"; done
			rm -rf "$apt" "$to/root/usr/share"
			return
		fi
	done
	grep '^[EW]:' "$apt/log" | tail -n 5 >&2 || tail -n 5 "$apt/log" >&2
	die "could not get llama.cpp-tools for $arch from $url ($suites): see apt's lines above and try again, or $own"
}

# wrap FOLDER writes FOLDER/llama-server, which runs the unpacked one with its own loader and libraries.
wrap() {
	local to=$1 backend loaders
	loaders=("$to"/root/usr/lib/*/ld*.so.[0-9]*)
	[[ -x ${loaders[0]} && -x $to/root/usr/bin/llama-server ]] || die "the packages have no program and loader in usr/bin and usr/lib: $own"
	local loader=${loaders[0]#"$to/"}
	# llama-server searches for its backends beside its executable, which is the loader here, and uses the best for this CPU.
	for backend in "$to/${loader%/*}"/ggml/backends*/*.so; do
		ln -s "${backend#"$to/${loader%/*}/"}" "$to/${loader%/*}/"
	done
	cat >"$to/llama-server" <<-END
		#!/bin/sh
		# Written by llmsup's scripts/llama-server.sh. It execs, so that llama-server itself gets its signals.
		here=\$(readlink -f -- "\$0") && here=\${here%/*}
		lib=\$here/${loader%/*}
		exec "\$here/$loader" --library-path "\$lib:\$lib/llama" "\$here/root/usr/bin/llama-server" "\$@"
	END
	chmod 755 "$to" "$to/llama-server"
}

# make FOLDER downloads and unpacks a llama-server.
make() {
	unpack "$1"
	wrap "$1"
	runs "$1/llama-server" || die "the llama-server of the packages fails with --version on this machine: $own"
	computes "$1/llama-server" || die "the llama-server of the packages finds no backend for this CPU: $own"
}

if [[ -n ${LLMSUP_LLAMA_SERVER:-} ]]; then
	found=$(type -P -- "$LLMSUP_LLAMA_SERVER") || die "LLMSUP_LLAMA_SERVER is $LLMSUP_LLAMA_SERVER, which is not a program: correct it or unset it"
	runs "$found" || die "LLMSUP_LLAMA_SERVER is $found, which fails with --version: correct it or unset it"
	realpath -s -- "$found"
	exit
fi
if found=$(type -P llama-server); then
	if runs "$found"; then
		realpath -s -- "$found"
		exit
	fi
	log "$found is on PATH but fails with --version: searching for another one"
fi

need_home
cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/llama-server
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
case $cache in
*[:\;]*) die "the path of the cache, $cache, must not contain a colon or semicolon: set LLMSUP_CACHE_DIR to another folder" ;;
esac
made=$cache/$(dpkg --print-architecture 2>/dev/null || uname -m)/llama-server

if ! computes "$made"; then
	{ mkdir -p "$cache" && exec 9>"$cache/lock"; } 2>/dev/null || die "cannot write to $cache: set LLMSUP_CACHE_DIR to a writable folder"
	flock --nonblock 9 || during "waiting for another llama-server.sh" "usually less than a minute" flock 9
	if ! computes "$made"; then # check again, with the lock
		rm -rf "$cache"/.new.*
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		during "downloading llama-server from the distribution's packages" "about 25 MB, once; usually 10 s to a minute" make "$new" || exit
		if [[ -e ${made%/*} ]]; then mv "${made%/*}" "$new/old"; fi
		mv -T "$new" "${made%/*}"
		rm -rf "${made%/*}/old"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
