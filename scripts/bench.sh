#!/usr/bin/env bash
# scripts/bench.sh [-rounds N] [-only REGEXP]
#
# Measures what a call's way through llmsup costs, against Go's httputil.ReverseProxy that does nothing else, both on one core in
# front of the same mock upstream, and prints a table of ratios. Takes some eight minutes; needs no root, no GPU, no llama-server,
# and two cores that have nothing else to do. It fails only where something is broken: an error, a wrong answer, a lost chunk.
# The measures that REGEXP may choose from: memory small large ledger latency chunk paced.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

need_home
need_go
need_gcc
# The checkout may belong to another user, whose git Go would refuse to ask.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

binary=$(mktemp -d)
trap 'rm -rf "$binary"' EXIT
cd "$root"
go build -o "$binary/built" ./cmd/llmsup
install -m 755 "$binary/built" "$binary/llmsup" # as scripts/install.sh does: how much of a file is mapped depends on how it was written
go build -tags bench -o "$binary/turnable" ./cmd/llmsup
go test -tags bench -count=1 -timeout 15m -v -run '^TestBench$' ./cmd/internal/bench -args -llmsup "$binary/llmsup" -turnable "$binary/turnable" "$@"
