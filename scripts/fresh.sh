#!/usr/bin/env bash
# scripts/fresh.sh SUITE [--run-only]
#
# Does what a new user does, in a minimal Debian: creates a container of SUITE
# (bookworm, trixie, testing) with debootstrap, installs the packages of the
# apt-get lines in README.md, clones the checkout's HEAD as an ordinary user, runs
# scripts/run.sh until a call is answered, stops it, and runs scripts/test.sh
# (not with --run-only). Prints the output, with the seconds since the start of
# each step, and the times. The exit code is 1 if a step fails.
#
# Needs root, and debootstrap, which it installs. The container shares the host's
# network and its settings for apt, Go's proxy and certificates. The Debian is
# kept for a week in the cache folder,
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/fresh; each run
# uses a writable layer over it, which is removed at the end.
set -euo pipefail
export LC_ALL=C

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"
# shellcheck source=scripts/mirror.sh
. "$root/scripts/mirror.sh"

suite=
run_only=
for arg; do
	case $arg in
	-h | --help) usage ;;
	--run-only) run_only=yes ;;
	-*) die "unknown argument $arg: it takes SUITE and --run-only; see --help" ;;
	*)
		[[ -z $suite ]] || die "only one suite at a time: $suite or $arg"
		suite=$arg
		;;
	esac
done
[[ -n $suite ]] || die "no suite given (example: $0 trixie)"
[[ $(id -u) == 0 ]] || die "this needs root, to create a container: sudo $0 $*"
need_home
command -v debootstrap >/dev/null || install_packages debootstrap || true
command -v debootstrap >/dev/null || die "no debootstrap: apt-get install debootstrap"
[[ $suite =~ ^[a-z]+$ && -e /usr/share/debootstrap/scripts/$suite ]] || die "debootstrap has no suite $suite; bookworm, trixie and testing are tested"
read -r kind url < <(mirror) || kind=none
[[ $kind == debian ]] || die "apt's sources have no mirror of Debian"

cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/fresh
case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
# The apt-get lines of README.md for this suite, without what follows the packages.
mapfile -t installs < <(sed -nE 's/^sudo (apt-get install [^#]*[^# ]).*/\1/p' "$root/README.md" | grep -E "install ([^-]|-t $suite-backports)")
((${#installs[@]})) || die "README.md has no line with sudo apt-get install"
tree=$cache/$suite-$(printf '%s\n' "$url" "${installs[@]}" | cksum | cut -d' ' -f1)
work=$cache/$suite.work # root is the container's root, changed its writable layer, from its /mnt

# inside LIMIT USER SCRIPT [ARGUMENT...] runs SCRIPT with bash in the container, in its own namespaces: when its first process or this
# script ends, all its processes and mounts are gone. It gets only the environment for the network and Go's proxy.
inside() {
	local name value
	for name in GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE GOINSECURE; do
		value=${!name:-$(go env "$name" 2>/dev/null)} || true
		if [[ -n $value ]]; then export "$name=$value"; fi
	done
	for name in $(compgen -e); do
		case $name in
		GOPROXY | GOSUMDB | GONOSUMDB | GONOPROXY | GOPRIVATE | GOINSECURE | GOFLAGS | *_proxy | *_PROXY | LLMSUP_LISTEN) ;;
		*) unset "$name" ;;
		esac
	done
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
	# shellcheck disable=SC2016 # the other shells'
	exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child bash -c '
		set -e
		cd "$1"
		if [[ -d changed ]]; then mount -t overlay -o "lowerdir=$2,upperdir=changed,workdir=overlay" overlay root; fi
		mount -t proc proc root/proc
		for dir in dev sys; do mount --rbind "/$dir" "root/$dir"; done
		mount --bind from root/mnt
		export USER=$4 HOME=/home/$4
		if [[ $4 == root ]]; then HOME=/root; fi
		# This bash, the first process, also reaps orphans.
		chroot root timeout -k 5 "$3" setpriv --reuid="$4" --regid="$4" --init-groups bash -c "${@:5}" &
		wait $!
	' bash "$work" "$tree" "$@" </dev/null
}

# step NAME LIMIT USER SCRIPT [ARGUMENT...] runs SCRIPT inside and prints its output. It adds the duration to $summary, and sets
# $pause to the longest time without a line, in tenths of a second.
pid=
step() {
	local name=$1 began=$SECONDS result=0 printer
	shift
	echo "== $suite: $name"
	exec {out}> >(stamped)
	printer=$!
	inside "$@" >&"$out" 2>&1 {out}>&- &
	pid=$!
	exec {out}>&-
	wait "$pid" || result=$?
	pid=
	wait "$printer" || true
	pause=$(<"$cache/$suite.pause")
	summary+="$suite: $name: $((SECONDS - began)) s"
	if [[ $name == scripts/* ]]; then summary+=", at most $((pause / 10)).$((pause % 10)) s without a line"; fi
	if ((result)); then
		summary+=", failed (exit code $result)"
		exit 1
	fi
	summary+=$'\n'
}

# stamped prints its input, with the seconds since the start before each line.
stamped() {
	local line began=${EPOCHREALTIME/./} now=0 before=0 longest=0
	while IFS= read -r line; do
		now=$(((${EPOCHREALTIME/./} - began) / 100000))
		printf '%4d.%d  %s\n' $((now / 10)) $((now % 10)) "$line"
		if ((now - before > longest)); then longest=$((now - before)); fi
		before=$now
	done
	echo "$longest" >"$cache/$suite.pause"
}

summary=
end() {
	trap '' INT TERM HUP
	if [[ -n $pid ]]; then
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	fi
	# The processes may need a moment to exit.
	rm -rf --one-file-system "$work" 2>/dev/null || { sleep 1 && rm -rf --one-file-system "$work"; }
	if [[ -n $summary ]]; then printf '== %s\n%s\n' "times" "${summary%$'\n'}"; fi
}
trap end EXIT
trap 'exit 130' INT TERM HUP

mkdir -p "$cache"
exec 9>"$cache/$suite.lock"
flock --nonblock 9 || during "waiting for another fresh.sh $suite" "it takes minutes" flock 9
rm -rf --one-file-system "$work"
mkdir -p "$work"/{root,from}

if [[ -z $(find "$tree.made" -mtime -7 2>/dev/null) ]]; then
	rm -rf "$cache/$suite"-*
	bootstrap() { debootstrap --variant=minbase "$suite" "$work/root" "$url" >"$cache/$suite.log" 2>&1; }
	if ! during "creating a minimal Debian $suite" "about 60 MB, once a week; usually a minute" bootstrap; then
		tail -n 5 "$cache/$suite.log" >&2
		die "could not create it from $url: see debootstrap's lines above, and try again"
	fi
	printf 'deb %s %s main\n' "$url" "$suite" >"$work/root/etc/apt/sources.list"
	if [[ ${installs[*]} == *" -t $suite-backports "* ]]; then
		printf 'deb %s %s-backports main\n' "$url" "$suite" >>"$work/root/etc/apt/sources.list"
	fi
	# The same network settings as on the host. The packages come only from README.md.
	apt-config dump --format '%f "%v";%n' | grep '^Acquire::' >"$work/root/etc/apt/apt.conf.d/90host" || true
	printf 'APT::Install-Recommends "false";\n' >"$work/root/etc/apt/apt.conf.d/91bare"
	cp -L /etc/resolv.conf /etc/hosts "$work/root/etc/"
	if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
		mkdir -p "$work/root/usr/local/share/ca-certificates"
		cp /usr/local/share/ca-certificates/*.crt "$work/root/usr/local/share/ca-certificates/"
	fi
	useradd --root "$work/root" --create-home --shell /bin/bash user
	# shellcheck disable=SC2016 # the other shell's
	step "the packages of README.md, once a week" 600 root '
		export DEBIAN_FRONTEND=noninteractive
		apt-get -qq update || exit
		for line; do echo "$line" && $line -qq --yes >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; done
		apt-get clean' bash "${installs[@]}"
	mv -T "$work/root" "$tree"
	touch "$tree.made"
fi
mkdir -p "$work"/{root,changed,overlay}
git -c safe.directory="$root" -C "$root" bundle create --quiet "$work/from/llmsup.bundle" HEAD
if [[ -n $(git --no-optional-locks -c safe.directory="$root" -C "$root" status --porcelain) ]]; then log "uncommitted changes are not in the clone"; fi
for port in {8000..8099}; do
	(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break # the port is free
done
export LLMSUP_LISTEN=127.0.0.1:$port

# use does what a user does with scripts/run.sh.
use() {
	cd ~/llmsup || exit
	answered scripts/run.sh || exit
	eval "$(sed -n 's/.*: \(export PATH=\)/\1/p' ~/log)"
	answered llmsup start --model ~/.local/state/llmsup/demo/demo.gguf || exit
}

# answered COMMAND... runs a daemon, and stops it once the call that run.sh prints is answered.
answered() {
	local pid answer='' began=$SECONDS result=0
	echo "\$ $*"
	set -m # its own process group, to which Ctrl-C is sent as on a terminal
	"$@" > >(tee -i ~/log) 2>&1 </dev/null &
	pid=$!
	set +m
	until [[ $answer == *" 1 2 3 4"* ]]; do
		kill -0 "$pid" 2>/dev/null || { echo "it ended without an answer" && return 1; }
		sleep 0.2
		if [[ -z ${curl:-} && $(<~/log) == *"export PATH="* ]]; then curl=$(sed -n '/^  *curl /,/^$/p' ~/log); fi
		if [[ -n ${curl:-} ]]; then answer=$(timeout 20 bash -c "$curl" 2>/dev/null) || true; fi
	done
	printf '%s\n%s\n' "$curl" "$answer"
	echo "== answered after $((SECONDS - began)) s"
	PATH=~/llmsup/bin:$PATH llmsup status
	kill -INT -- "-$pid"
	wait "$pid" || result=$?
	echo "== stopped, exit code $result"
	return "$result"
}

step "git clone" 120 user 'git -c init.defaultBranch=main -c advice.detachedHead=false clone --quiet /mnt/llmsup.bundle ~/llmsup && git -C ~/llmsup log -1 --oneline'
step "scripts/run.sh" 1200 user "$(declare -f use answered); use"
# More than 5 s without a line is too long; allow 10 s for a busy machine.
((pause <= 100)) || die "run.sh printed nothing for $((pause / 10)) s"
unset LLMSUP_LISTEN
if [[ -z $run_only ]]; then step "scripts/test.sh" 3600 user 'cd ~/llmsup && scripts/test.sh'; fi
