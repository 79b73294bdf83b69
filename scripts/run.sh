#!/usr/bin/env bash
# scripts/run.sh [MODEL.gguf] [flags of llmsup start] [-- flags of llama-server]
#
# Builds bin/llmsup, finds or downloads llama-server (scripts/llama-server.sh),
# and runs llmsup in the foreground: on MODEL.gguf, else on the demo model, which
# llmsup generates. It works on Debian and Ubuntu with the packages that README.md
# names, and needs no root; as root it installs a missing gcc.
#
# Flags of llmsup start: --listen HOST:PORT, --config llmsup.yaml, --ctx-size N,
# --llama-server PATH, and the others in bin/llmsup start --help.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

log() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	log "$*"
	exit 1
}

# usage prints the comment at the beginning of the running script, and exits.
usage() {
	sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
	exit 0
}

# ticks prints "WHAT (DETAIL)" after half a second, and then every 3 s how long WHAT has taken, until its stdin ends.
ticks() {
	local from=$SECONDS pause=0.5
	while read -rt "$pause" || (($? > 128)); do # over 128: a timeout
		if [[ $pause == 0.5 ]]; then log "$1 ($2)"; else log "$1, $((SECONDS - from)) s so far"; fi
		pause=3
	done
}

# during WHAT DETAIL COMMAND... runs COMMAND and prints WHAT, DETAIL (how long that usually takes) and the time so far. It prints
# the output of COMMAND only if COMMAND fails, and nothing if COMMAND takes less than half a second.
during() {
	local what=$1 detail=$2 out tick ticker result=0
	shift 2
	exec {tick}> >(ticks "$what" "$detail") # the pipe is closed when this shell exits, also by a signal
	ticker=$!
	out=$("$@" 2>&1 </dev/null {tick}>&-) || result=$?
	exec {tick}>&-
	wait "$ticker" || true
	if ((result)) && [[ -n $out ]]; then printf '%s\n' "$out" >&2; fi
	return "$result"
}

in_root() { (cd "$root" && "$@"); }

# need_home sets HOME, in which Go and llama-server.sh have their caches.
need_home() {
	[[ -n ${HOME:-} ]] || unset HOME # then ~ is the home in the user database
	export HOME=~
}

# need_go [ARGUMENTS OF GO LIST] checks for the Go version of go.mod, or one that can download it. It downloads that version and the
# modules of the given packages (without arguments: of all packages and tests), so that later steps only compile.
need_go() {
	local want have how
	(($#)) || set -- -test ./...
	[[ -e $root/go.mod ]] || die "this builds llmsup, and $root is not a checkout of its source; to run the llmsup that is installed: llmsup start --help"
	want=$(sed -n 's/^go //p' "$root/go.mod")
	how="install Go $want or newer from https://go.dev/dl/"
	command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
	command -v go >/dev/null || die "no Go on PATH: install the packages in README.md, or $how"
	have=$(cd / && GOTOOLCHAIN=local go version) # outside of the module, whose go.mod an old Go may not understand
	[[ $have =~ go([0-9]+\.[0-9]+[^ ]*) ]] || die "cannot tell the version of Go from \"$have\": $how"
	have=${BASH_REMATCH[1]}
	if ! printf '%s\n' "$want" "$have" | sort -VC; then
		printf '%s\n' 1.21 "$have" | sort -VC || die "Go $have is too old to download a newer one itself: $how, or Go 1.21 or newer (README.md shows how on Debian 12)"
		during "downloading the toolchain go$want, as Go here is $have" "about 70 MB, once; usually 10 s to a minute" in_root go version ||
			die "Go $have could not download the toolchain go$want: see above and try again, or $how"
	fi
	# The build reports errors of this step.
	during "downloading Go modules" "once; usually 10 s to a minute" in_root go list -e -deps "$@" || true
}

# need_gcc checks for a C compiler, which cgo needs: without one Go silently leaves out the code that reads the GPU.
need_gcc() {
	local cc try=0
	cc=$(cd "$root" && go env CC)
	# shellcheck disable=SC2086 # CC may hold flags
	until printf '#include <stdlib.h>\nint main(void) { return 0; }\n' | $cc -x c -o /dev/null - 2>/dev/null; do
		if ((try++)) || [[ $(id -u) != 0 || $cc != gcc ]] || ! command -v apt-get >/dev/null; then
			die "no working C compiler ($cc), which cgo needs: apt-get install gcc libc6-dev"
		fi
		install_packages gcc libc6-dev || true
	done
	export CGO_ENABLED=1
	# NVML's header marks a hundred functions as deprecated, and the compiler would warn about each.
	export CGO_CFLAGS="${CGO_CFLAGS:--g -O2} -Wno-deprecated-declarations"
}

# install_packages PACKAGE... needs root.
install_packages() {
	during "installing $*" "usually less than a minute" apt_get update &&
		during "installing $*" "usually less than a minute" apt_get install --yes --no-install-recommends "$@"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -qq "$@"; }

# from_packages FILE reports whether FILE is a llama-server that llama-server.sh unpacked.
from_packages() {
	local file
	file=$(realpath -- "$1" 2>/dev/null) && [[ -e ${file%/*}/root/usr/bin/llama-server ]]
}

# compile FILE builds llmsup.
compile() {
	local version
	# git refuses to work in a checkout of another user.
	version=$(git --no-optional-locks -c safe.directory="$root" -C "$root" describe --tags --always --dirty 2>/dev/null || echo dev)
	during "compiling llmsup $version" "usually 1 to 2 minutes the first time" \
		in_root go build -buildvcs=false -ldflags "-X main.version=$version" -o "$1" ./cmd/llmsup || die "the build failed; see above"
}

# The other scripts source this file for the functions above.
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then return; fi

for arg; do
	case $arg in
	--) break ;;
	-h | --help | -help) usage ;;
	esac
done

model=
case ${1:-} in
'' | -*) ;;
*)
	model=$1
	shift
	[[ -r $model && ! -d $model ]] || die "cannot read the model $model: the first argument is a GGUF file, all others are flags of llmsup start"
	;;
esac

# The model, the binary and the address can be set by flags or variables.
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
need_go ./cmd/llmsup
[[ ${CGO_ENABLED:-} == 0 ]] || need_gcc
if [[ -z $server && -r $config ]] && grep -q '^llama_server:' "$config"; then
	server=config
fi
if [[ -z $server ]]; then
	server=$("$root/scripts/llama-server.sh")
	set -- --llama-server "$server" "$@"
fi

{ mkdir -p "$root/bin" && new=$(mktemp -d "$root/bin/.new.XXXXXX"); } 2>/dev/null || die "cannot write to $root/bin: run this as the checkout's owner, or in a copy of your own"
trap 'rm -rf "$new"' EXIT
compile "$new/llmsup"
mv -f "$new/llmsup" "$root/bin/llmsup"
rm -rf "$new"

listen=${listen:-127.0.0.1:8000}
host=${listen%:*} port=${listen##*:}
case $host in '' | 0.0.0.0 | '[::]') host=127.0.0.1 ;; esac
curl="curl 'http://$host:$port"
if [[ -r $config ]] && grep -q '^tls:' "$config"; then # a certificate is for a name, so the user has to put it there
	curl="curl --cacert CA.pem 'https://NAME:$port"
fi
if [[ $port == 0 ]]; then
	log "its first lines will show where it listens"
elif [[ -z $chosen ]]; then # the models are in the file
	log "once it runs, this lists its models: $curl/v1/models'"
else
	log "once the model is loaded, this gets an answer:"
	cat >&2 <<-END

		  $curl/v1/chat/completions' -H 'Content-Type: application/json' \\
		    -d '{"model": "local", "max_tokens": 20, "messages": [{"role": "user", "content": "Count."}]}'

	END
fi
log "this puts llmsup on the PATH of another shell: export PATH=$(printf %q "$root/bin"):\$PATH"
exec "$root/bin/llmsup" start "$@"
