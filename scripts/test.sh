#!/usr/bin/env bash
# scripts/test.sh [arguments of go test]
#
# Sets everything up, as run.sh does, and runs the tests with the race detector on a real llama-server: all of them, or what
# the arguments name. Needs no root; what does is named in the last lines as not run.
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

(($#)) || set -- ./...
cd "$root"
# A test that this user or this machine can't run says so in this file; the last lines name it.
LLMSUP_TEST_NOT_RUN=$(mktemp)
export LLMSUP_TEST_NOT_RUN
# Tests that mostly wait (for samples, for a stall) run beside each other, whatever the number of cores.
result=0
go test -race -timeout 25m -parallel 4 "$@" || result=$?
sed 's/^/not run: /' "$LLMSUP_TEST_NOT_RUN"
rm -f "$LLMSUP_TEST_NOT_RUN"
exit "$result"
