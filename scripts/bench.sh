#!/usr/bin/env bash
# scripts/bench.sh [-rounds N] [-only REGEXP] [-before PATH] [-profile DIR] [-check]
#
# Measures the cost of a call through llmsup against one through Go's httputil.ReverseProxy, each on one core in front of the same
# mock upstream, and prints a table of ratios. Takes about ten minutes; needs no root, no GPU and no llama-server, but two idle
# cores. It fails only because of an error, a wrong answer or a lost event, not because of a ratio.
# -only REGEXP selects rows: small1 latency small64 large huge burst paced memory.
# -check measures each row once and without pauses, in some seconds: it shows that the rows can be measured, no more.
# -before adds a column for another build of llmsup; -profile makes llmsup write a CPU profile per row, ROW-ROUND.pprof.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

need_home
need_go
need_gcc
# git refuses to work in a checkout of another user.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-buildvcs=false"

# Paths in the arguments are relative to the current folder.
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
install -m 755 "$binary/built" "$binary/llmsup" # as scripts/install.sh does: how the file was written changes how much of it is mapped
go test -tags bench -count=1 -timeout 20m -v -run '^TestBench$' ./cmd/internal/bench -args -llmsup "$binary/llmsup" "${arguments[@]}"
