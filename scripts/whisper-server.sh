#!/usr/bin/env bash
# scripts/whisper-server.sh
#
# Prints the path of a working whisper-server (whisper.cpp) on stdout, and nothing
# else. A test of commands of llmsup.yaml runs it. It uses the first of these:
# - $LLMSUP_TEST_WHISPER_SERVER;
# - whisper-server on PATH;
# - the one in the cache folder;
# - one that it unpacks there from the distribution's packages, once: that needs
#   apt, the network and 70 MB of download, but no root. It runs on the CPU.
# The cache folder is
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/whisper-server.
# Remove it to get a newer whisper-server.
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

own='install whisper-server yourself and put it on PATH: https://github.com/ggml-org/whisper.cpp'

# works FILE reports whether a whisper-server runs on this machine.
works() { timeout 60 "$1" --help </dev/null >/dev/null 2>&1; }

if [[ -n ${LLMSUP_TEST_WHISPER_SERVER:-} ]]; then
	found=$(type -P -- "$LLMSUP_TEST_WHISPER_SERVER") || die "LLMSUP_TEST_WHISPER_SERVER is $LLMSUP_TEST_WHISPER_SERVER, which is not a program: correct it or unset it"
	realpath -s -- "$found"
	exit
fi
if found=$(type -P whisper-server) && works "$found"; then
	realpath -s -- "$found"
	exit
fi

# Other programs of whisper.cpp-tools need the last two, which bring 230 MB more.
cached whisper-server 70 whisper.cpp-tools libsdl2-2.0-0 libllama0
