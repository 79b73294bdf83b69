#!/usr/bin/env bash
# scripts/bench.sh [-rounds N] [-only REGEXP] [-before PATH] [-profile DIR]
#
# Measures what a call costs that goes through llmsup, against Go's httputil.ReverseProxy that does nothing else, both on one core
# in front of the same mock upstream, and prints a table of ratios. Takes some ten minutes; needs no root, no GPU, no llama-server,
# and two cores that have nothing else to do. It fails only where something is broken: an error, a wrong answer, a lost event.
# The rows that REGEXP may choose from: small1 latency small64 large huge burst paced memory.
# -before adds a column for another build of llmsup; -profile has llmsup write a CPU profile per row, ROW-ROUND.pprof.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

need_home
need_go
need_gcc
# The checkout may belong to another user, whose git Go would refuse to ask.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

# The paths among the arguments are relative to the caller's folder.
arguments=() tags=()
while (($#)); do
	arguments+=("$1")
	case $1 in
	-profile)
		mkdir -p "$2"
		tags=(-tags bench)
		;&
	-before)
		arguments+=("$(realpath -- "$2")")
		shift
		;;
	esac
	shift
done

binary=$(mktemp -d)
trap 'rm -rf "$binary"' EXIT
cd "$root"
go build "${tags[@]}" -o "$binary/built" ./cmd/llmsup
install -m 755 "$binary/built" "$binary/llmsup" # as scripts/install.sh does: how much of a file is mapped depends on how it was written
go test -tags bench -count=1 -timeout 20m -v -run '^TestBench$' ./cmd/internal/bench -args -llmsup "$binary/llmsup" "${arguments[@]}"
