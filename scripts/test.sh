#!/usr/bin/env bash
# scripts/test.sh [arguments of go test]
#
# Sets everything up, as run.sh does, and runs the tests with the race detector on a real llama-server: all of them, or what
# the arguments name. Prints every 20 s what runs (cmd/internal/testreport), and ends with the slowest tests, those that failed, and the
# totals. Needs no root; what does is named in the last lines as not run.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

need_home
need_go
need_gcc
LLMSUP_TEST_LLAMA_SERVER=$("$root/scripts/llama-server.sh")
LLMSUP_TEST_PROMTOOL=$("$root/scripts/promtool.sh")
export LLMSUP_TEST_LLAMA_SERVER LLMSUP_TEST_PROMTOOL
# The checkout may belong to another user, whose git Go would refuse to ask.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

cd "$root"
(($#)) || set -- ./...
# go test starts packages in this order: those that take longest come first.
arguments=()
for argument; do
	if [[ $argument == ./... ]]; then arguments+=(./systemd ./cmd/llmsup ./supervisor ./router); fi
	arguments+=("$argument")
done
set -- "${arguments[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/testreport" ./cmd/internal/testreport
# A test that this user or this machine can't run says so in this file; the last lines name it.
export LLMSUP_TEST_NOT_RUN=$work/not-run
: >"$LLMSUP_TEST_NOT_RUN"

# Most tests wait most of the time (for samples, for a stall, for a container). So one package more than there are cores runs at a
# time, and two tests a core of each: as many llama-servers, with one thread each. models/demo/demotest counts the busy ones.
cores=$(nproc)
interrupted=
trap 'interrupted=1' INT # which go test gets as well; the report of what has run is still to come
set +e
go test -json -race -timeout 25m -p $((cores + 1)) -parallel $((2 * cores)) "$@" | "$work/testreport" "$@"
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
