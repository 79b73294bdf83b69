#!/usr/bin/env bash
# scripts/sysroot.sh ARCHITECTURE
#
# Prints the folder with the headers and libraries of Debian 11's C library for
# amd64 or arm64, and nothing else. What is linked with them runs on Debian 11 and
# on every newer system. The first time it downloads them from the machine's
# mirror (6 MB): that needs apt and the network, but no root. They are kept in the
# cache folder, ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/sysroot.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"
# shellcheck source=scripts/mirror.sh
. "$root/scripts/mirror.sh"

suite=bullseye
case ${1:-} in
amd64 | arm64) arch=$1 ;;
-h | --help) usage ;;
*) die "it takes an architecture, amd64 or arm64: see --help" ;;
esac
need_home
cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/sysroot
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
case $cache in *[[:space:]]*) die "the path of the cache, $cache, must not contain spaces, which gcc's flags cannot: set LLMSUP_CACHE_DIR" ;; esac
made=$cache/$suite-$arch

# fetch FOLDER downloads the packages, with an apt state of its own, and unpacks them to FOLDER/root.
fetch() {
	local kind url signed='' keyring deb link
	read -r kind url < <(mirror) || kind=none
	[[ $kind == debian ]] || die "apt's sources have no mirror of Debian"
	for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		if [[ -r $keyring ]]; then signed=" signed-by=$keyring" && break; fi
	done
	mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/root"
	: >"$1/status"
	printf 'deb [arch=%s%s] %s %s main\n' "$arch" "$signed" "$url" "$suite" >"$1/sources.list"
	local get=(apt-get -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Default-Release= -o APT::Sandbox::User=root
		-o Acquire::Languages=none -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false -o APT::Update::Error-Mode=any
		-o Dir::State::lists="$1/lists" -o Dir::State::status="$1/status" -o Dir::Cache="$1/cache" -o Dir::Log="$1"
		-o Dir::Etc::sourcelist="$1/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null)
	"${get[@]}" update || return
	(cd "$1/cache/archives" && "${get[@]}" download libc6 libc6-dev linux-libc-dev) || return
	for deb in "$1"/cache/archives/*.deb; do dpkg -x "$deb" "$1/root" || return; done
	# ld does not look for the targets of absolute links in the folder.
	while IFS= read -r link; do
		ln -sfnr "$1/root$(readlink "$link")" "$link" || return
	done < <(find "$1/root" -type l -lname '/*')
	rm -rf "$1"/root/{etc,sbin,usr/bin,usr/sbin,usr/share}
}

if [[ ! -e $made ]]; then
	{ command -v apt-get && command -v dpkg; } >/dev/null || die "no apt to download Debian 11's C library"
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	if [[ ! -e $made ]]; then # check again, with the lock
		rm -rf "$cache"/.new.*
		new=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$new"' EXIT
		during "downloading Debian 11's C library for $arch" "6 MB, once; usually 5 to 20 s" fetch "$new" || die "could not get it: see above"
		mv -T "$new/root" "$made"
	fi
	exec 9>&-
fi
printf '%s\n' "$made"
