#!/usr/bin/env bash
# scripts/test.sh [arguments of go test]
#
# Installs what the tests need, as run.sh does, and runs them with the race detector on a real llama-server: all tests, or those of
# the arguments. Prints the running tests every 20 s (cmd/internal/testreport), and at the end the slowest tests, the failed ones and
# the totals. Needs neither root, nor node, nor Chromium (which it installs as root): the
# last lines list the tests that need them as not run.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

need_home
need_go
need_gcc
LLMSUP_TEST_LLAMA_SERVER=$("$root/scripts/llama-server.sh")
LLMSUP_TEST_PROMTOOL=$("$root/scripts/promtool.sh")
# If this is empty, the tests of real clients are listed as not run.
LLMSUP_TEST_CLIENTS=${LLMSUP_TEST_CLIENTS-}
if [[ -z $LLMSUP_TEST_CLIENTS ]] && "$root/scripts/clients.sh" --can-install; then LLMSUP_TEST_CLIENTS=$("$root/scripts/clients.sh"); fi
# So are the tests of the page without Chromium, and those of its accessibility without axe-core.
LLMSUP_TEST_AXE=${LLMSUP_TEST_AXE-}
if [[ -z $LLMSUP_TEST_AXE ]] && "$root/scripts/clients.sh" --can-install; then LLMSUP_TEST_AXE=$("$root/scripts/clients.sh" --axe); fi
if [[ $(id -u) == 0 && -z ${LLMSUP_TEST_CHROMIUM:-} ]] && ! command -v chromium chromium-browser google-chrome >/dev/null && command -v apt-get >/dev/null; then
	install_packages chromium || true
fi
# So is the test of whisper-server without one: not every release has a package of it.
LLMSUP_TEST_WHISPER_SERVER=$("$root/scripts/whisper-server.sh") || true
# And the test of the backend for Vulkan.
LLMSUP_TEST_VULKAN_SERVER=${LLMSUP_TEST_VULKAN_SERVER-$("$root/scripts/llama-server.sh" --software-vulkan)} || true
export LLMSUP_TEST_LLAMA_SERVER LLMSUP_TEST_PROMTOOL LLMSUP_TEST_WHISPER_SERVER LLMSUP_TEST_VULKAN_SERVER LLMSUP_TEST_CLIENTS LLMSUP_TEST_AXE
export PATH=$PATH:/usr/sbin # Debian's nginx is there
# git refuses to work in a checkout of another user.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

cd "$root"
(($#)) || set -- ./...
# go test starts packages in this order, so the slowest come first: one that starts late runs alone at the end.
arguments=()
for argument; do
	if [[ $argument == ./... ]]; then arguments+=(./cmd/llmsup ./systemd ./cmd/internal/fleet/threeboxes ./cmd/internal/page/browser ./supervisor/llamacpp ./router); fi
	arguments+=("$argument")
done
set -- "${arguments[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/testreport" ./cmd/internal/testreport
# Tests that this user or machine cannot run add a line to this file.
export LLMSUP_TEST_NOT_RUN=$work/not-run
: >"$LLMSUP_TEST_NOT_RUN"

# Most tests wait most of the time (for samples, a stall, a container). So one package more than there are cores runs at a time,
# with two tests per core: as many llama-servers, with one thread each. models/demo/demotest counts the busy ones.
cores=$(nproc)
interrupted=
trap 'interrupted=1' INT # go test gets it as well; the report of the finished tests follows
set +e
go test -json -race -timeout 60m -p $((cores + 1)) -parallel $((2 * cores)) "$@" | "$work/testreport" "$@"
result=("${PIPESTATUS[@]}")
set -e
trap - INT

sed 's/^/not run: /' "$LLMSUP_TEST_NOT_RUN"
if [[ -n $interrupted ]]; then
	rm -rf "$work"
	trap - EXIT
	kill -s INT $$
fi
exit $((result[0] ? result[0] : result[1]))
