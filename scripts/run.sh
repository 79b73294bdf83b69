#!/usr/bin/env bash
# scripts/run.sh [MODEL.gguf] [flags of llmsup start] [-- flags of llama-server]
#
# Sets everything up on Debian or Ubuntu with Go and gcc, and runs llmsup in the foreground: builds bin/llmsup, finds or gets
# llama-server (see llama-server.sh), and starts both on MODEL.gguf, else on the demo model, which needs no download.
# Needs no root; as root it installs a missing gcc.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# need_home gives Go and llama-server.sh a place for their caches.
need_home() {
	[[ -n ${HOME:-} ]] || unset HOME # then ~ is what the system knows of this user
	export HOME=~
}

# need_go wants the Go that go.mod asks for, or one that can fetch it itself.
need_go() {
	local want have
	want=$(sed -n 's/^go //p' "$root/go.mod")
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
	command -v go >/dev/null || die "there is no Go on PATH: install Go $want or newer, https://go.dev/dl/"
	have=$(cd / && GOTOOLCHAIN=local go version) # outside the module, which an old Go may not understand
	[[ $have =~ go([0-9]+\.[0-9]+[^ ]*) ]] || die "cannot tell the version of Go from \"$have\": install Go $want or newer, https://go.dev/dl/"
	have=${BASH_REMATCH[1]}
	if printf '%s\n' "$want" "$have" | sort -VC; then return; fi
	if printf '%s\n' 1.21 "$have" | sort -VC && (cd "$root" && go version >/dev/null); then return; fi # fetched the wanted one
	die "Go $have is too old: install Go $want or newer, https://go.dev/dl/"
}

# need_gcc wants what cgo compiles with; without it Go would quietly leave out what reads the GPU.
need_gcc() {
	local cc try=0
	cc=$(cd "$root" && go env CC)
	# shellcheck disable=SC2086 # CC may hold flags
	until printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $cc -x c -o /dev/null - 2>/dev/null; do
		if ((try++)) || [[ $(id -u) != 0 || $cc != gcc ]] || ! command -v apt-get >/dev/null; then
			die "there is no working C compiler ($cc), which cgo needs: apt-get install gcc libc6-dev"
		fi
		say "installing gcc"
		export DEBIAN_FRONTEND=noninteractive
		{ apt-get -qq update && apt-get -qq install --yes --no-install-recommends gcc libc6-dev; } </dev/null >/dev/null 2>&1 || true
	done
	export CGO_ENABLED=1
	# NVML's header calls a hundred functions deprecated, and the compiler says so for each.
	export CGO_CFLAGS="${CGO_CFLAGS:--g -O2} -Wno-deprecated-declarations"
}

# test.sh sources this file for what stands above.
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return; fi

model=
case ${1:-} in
'' | -*) ;;
*)
	model=$1
	shift
	[[ -r $model && ! -d $model ]] || die "cannot read the model $model: the first argument is a GGUF file, all others are flags of llmsup start"
	;;
esac

# What decides on the model, the binary and the address may be among the flags, else in the environment.
chosen=$model${LLMSUP_MODEL:-}${LLMSUP_DEMO:-}
listen=${LLMSUP_LISTEN:-}
config=${LLMSUP_CONFIG:-}
server=
want=
for arg; do
	case $want in
	listen) listen=$arg ;;
	config) config=$arg ;;
	server) server=$arg ;;
	esac
	want=
	case $arg in
	--) break ;;
	--listen | -listen) want=listen ;;
	--listen=* | -listen=*) listen=${arg#*=} ;;
	--config | -config) want=config ;;
	--config=* | -config=*) config=${arg#*=} ;;
	--llama-server | -llama-server) want=server ;;
	--llama-server=* | -llama-server=*) server=${arg#*=} ;;
	--model | -model | --model=* | -model=* | --demo | -demo | --demo=* | -demo=*) chosen=yes ;;
	esac
done
if [[ -z $listen && -r $config ]]; then
	listen=$(sed -nE "s/^listen:[[:space:]]*[\"']?([^\"'#[:space:]]+).*/\1/p" "$config")
fi
if [[ -n $model ]]; then
	set -- --model "$model" "$@"
elif [[ -z $chosen && -z $config ]]; then
	set -- --demo "$@"
	chosen=yes
fi

need_home
need_go
[[ ${CGO_ENABLED:-} == 0 ]] || need_gcc
if [[ -z $server && -r $config ]] && grep -q '^llama_server:' "$config"; then
	server=config
fi
if [[ -z $server ]]; then
	server=$("$root/scripts/llama-server.sh")
	set -- --llama-server "$server" "$@"
fi

version=$(git --no-optional-locks -C "$root" describe --tags --always --dirty 2>/dev/null || echo dev)
{ mkdir -p "$root/bin" && new=$(mktemp -d "$root/bin/.new.XXXXXX"); } 2>/dev/null || die "cannot write to $root/bin: run this as the checkout's owner, or in a copy of your own"
trap 'rm -rf "$new"' EXIT
(cd "$root" && go build -buildvcs=false -ldflags "-X main.version=$version" -o "$new/llmsup" ./cmd/llmsup) || die "the build failed; see above"
mv -f "$new/llmsup" "$root/bin/llmsup"
rm -rf "$new"

if [[ -e /dev/nvidiactl && $server == */llama-server/*/llama-server ]]; then
	say "note: this llama-server computes on the CPU; for the GPU put one built with CUDA on PATH: https://github.com/ggml-org/llama.cpp"
fi
listen=${listen:-127.0.0.1:8000}
host=${listen%:*} port=${listen##*:}
case $host in '' | 0.0.0.0 | '[::]') host=127.0.0.1 ;; esac
if [[ $port == 0 ]]; then
	say "once it is up, its first lines say where it listens"
elif [[ -z $chosen ]]; then # the file decides what there is to ask for
	say "once it is up, this lists its models: curl 'http://$host:$port/v1/models'"
else
	say "once the model is loaded, this gets an answer:"
	cat >&2 <<-END

		  curl 'http://$host:$port/v1/chat/completions' -H 'Content-Type: application/json' \\
		    -d '{"model": "local", "max_tokens": 20, "messages": [{"role": "user", "content": "Count."}]}'

	END
fi
exec "$root/bin/llmsup" start "$@"
