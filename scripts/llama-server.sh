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
# shellcheck source=scripts/packages.sh
. "$root/scripts/packages.sh"

case ${1:-} in
'') ;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac

own='install llama-server yourself and put it on PATH: https://github.com/ggml-org/llama.cpp'

# runs FILE reports whether a llama-server runs on this machine.
runs() { timeout 60 "$1" --version </dev/null >/dev/null 2>&1; }

# works FILE reports whether our llama-server finds a CPU backend. Others may have it linked in.
works() {
	local out try
	for try in 1 2 3 4 5; do # it logs in a separate thread, and on a busy machine may exit before the last lines
		out=$(timeout 60 "$1" -v --list-devices </dev/null 2>&1) || return
		if [[ $out == *loaded*libggml-cpu* ]]; then return; fi
	done
	return 1
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

# Only the setup of llama.cpp-tools needs the last three.
cached llama-server 25 llama.cpp-tools debconf wget curl
