#!/usr/bin/env bash
# scripts/llama-server.sh [--software-vulkan]
#
# Prints the path of a working llama-server on stdout, and nothing else; on
# stderr, in one line, why it is that one and what it computes on. It uses the
# first of these:
# - $LLMSUP_LLAMA_SERVER: set it to use a build for CUDA, or any other one;
# - llama-server on PATH;
# - the one in the cache folder;
# - one that it unpacks there from the distribution's packages, once: that needs
#   apt, the network and 25 MB of download, but no root. Where the machine has a
#   GPU (/dev/nvidia*, /dev/dri/renderD*) or a driver for Vulkan, this includes
#   the backend for Vulkan, which uses the GPU through the machine's driver.
#   Otherwise it computes on the CPU. One without that backend, from a time when
#   there was no GPU, is replaced; if that fails, it is not tried again for a day.
# The cache folder is
# ${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/llama-server.
# Remove it to get a newer llama-server.
#
# --software-vulkan is for tests: it prints the path of one that has the backend
# for Vulkan and Mesa's driver that computes on the CPU (80 MB more).
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"
# shellcheck source=scripts/packages.sh
. "$root/scripts/packages.sh"

software=
case ${1:-} in
'') ;;
--software-vulkan) software=yes ;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac

own='install llama-server yourself and put it on PATH: https://github.com/ggml-org/llama.cpp'
other='for another build, such as one for CUDA, use LLMSUP_LLAMA_SERVER=FILE, --llama-server FILE, or llama_server in llmsup.yaml'

# runs FILE reports whether a llama-server runs on this machine.
runs() { timeout 60 "$1" --version </dev/null >/dev/null 2>&1; }

# works FILE reports whether our llama-server finds a CPU backend. Others may have it linked in.
works() {
	local out try
	for try in 1 2 3 4 5; do # it logs in a separate thread, and on a busy machine may exit before the last lines
		out=$(timeout 60 "$1" -v --list-devices </dev/null 2>&1) || return
		if [[ $out == *loaded*libggml-cpu* ]]; then return; fi
	done
	return 1
}

# without_extra FOLDER takes the backend for Vulkan out: a broken driver can crash the program that loads it.
without_extra() { rm -f "$1"/root/usr/lib/*/libggml-vulkan.so; }

# gpu prints the file that shows that this machine has a GPU or a driver for Vulkan.
gpu() {
	local file drivers
	IFS=: read -ra drivers <<<"${VK_DRIVER_FILES:-}:${VK_ADD_DRIVER_FILES:-}:${VK_ICD_FILENAMES:-}"
	for file in /dev/nvidia[0-9]* /dev/nvidiactl /dev/dri/renderD* {/etc,/usr/local/share,/usr/share}/vulkan/icd.d/*.json "${drivers[@]}"; do
		if [[ -n $file && -e $file ]]; then printf '%s\n' "$file" && return; fi
	done
	return 1
}

# advice FILE prints why Vulkan may find no GPU although FILE, the one of gpu, is there.
advice() {
	case $1 in
	/dev/nvidia*) echo "install the part of NVIDIA's driver for Vulkan (Debian: nvidia-vulkan-icd; Ubuntu: libnvidia-gl-VERSION)" ;;
	/dev/dri/*)
		if [[ -r $1 && -w $1 ]]; then
			echo "install its driver for Vulkan (AMD, Intel: mesa-vulkan-drivers)"
		else
			echo "you may not open $1: sudo usermod -aG $(stat -c %G "$1") $(id -un), and log in again"
		fi
		;;
	*) echo "there may be none" ;;
	esac
}

# computes FILE prints what a llama-server computes on; nothing if it does not say.
computes() {
	local out names
	out=$(timeout 60 "$1" --list-devices </dev/null 2>/dev/null) || return 0
	names=$(sed -nE 's/^ +[A-Za-z]+[0-9]+: (.*) \([0-9]+ MiB, [0-9]+ MiB free\).*/\1/p' <<<"$out" | paste -sd'|')
	if [[ -n $names ]]; then
		printf '%s\n' "${names//|/, }"
	elif [[ $out == "Available devices:"* ]]; then
		echo "the CPU"
	fi
}

# chose FILE WHY prints the chosen llama-server, and exits.
chose() {
	local on
	on=$(computes "$1")
	log "using $1: $2${on:+; it computes on $on}"
	realpath -s -- "$1"
	exit
}

if [[ -n $software ]]; then
	need_home
	export LLMSUP_CACHE_DIR=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/software-vulkan
	extra='libggml0-backend-vulkan mesa-vulkan-drivers'
	found=$(cached llama-server 80 llama.cpp-tools debconf wget curl)
	compgen -G "${found%/*}/root/usr/lib/*/libvulkan_lvp.so" >/dev/null || die "the distribution has no packages $extra"
	printf '%s\n' "$found"
	exit
fi
if [[ -n ${LLMSUP_LLAMA_SERVER:-} ]]; then
	found=$(type -P -- "$LLMSUP_LLAMA_SERVER") || die "LLMSUP_LLAMA_SERVER is $LLMSUP_LLAMA_SERVER, which is not a program: correct it or unset it"
	runs "$found" || die "LLMSUP_LLAMA_SERVER is $found, which fails with --version: correct it or unset it"
	chose "$found" "LLMSUP_LLAMA_SERVER names it"
fi
if has=$(gpu); then extra=libggml0-backend-vulkan; fi
need_home
failed=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/llama-server/no-vulkan
# Without a network each try takes 10 s and more, which a start must not.
later=$(find "$failed" -mmin -1440 2>/dev/null) || true
missing="could not be downloaded; it is tried again after a day, or at the next start after: rm $failed"
path=$(type -P llama-server) || true
if [[ -n $path ]] && ! runs "$path"; then
	log "$path is on PATH but fails with --version: searching for another one"
	path=
fi
if [[ -n $path ]] && { ! from_packages "$path" || has_extra "$(realpath -- "$path")"; }; then chose "$path" "it is on PATH"; fi
without="it is on PATH, without the backend for Vulkan, which $missing"
if [[ -n $path && -n $later ]]; then chose "$path" "$without"; fi

# Only the setup of llama.cpp-tools needs the last three.
if ! found=$(cached llama-server 25 llama.cpp-tools debconf wget curl); then
	[[ -n $path ]] || exit 1
	touch "$failed" 2>/dev/null || true
	chose "$path" "$without"
fi
if ! has_extra "$found" && [[ -z $later ]] && ! touch "$failed" 2>/dev/null; then
	missing="is not in ${failed%/*}, which cannot be written to: set LLMSUP_CACHE_DIR to a writable folder"
fi
on=$(computes "$found")
if [[ -z $has ]]; then
	why="on the CPU: this machine has no /dev/nvidia*, no /dev/dri/renderD* and no driver for Vulkan"
elif ! compgen -G "${found%/*}/root/usr/lib/*/libggml-vulkan.so" >/dev/null; then
	if has_extra "$found"; then why="fails here, or the distribution has none (to try again, remove ${found%/*})"; else why=$missing; fi
	why="on the CPU, in spite of $has: the backend for Vulkan $why"
elif [[ $on == "the CPU" ]]; then
	why="with Vulkan, because of $has, but on the CPU: Vulkan finds no GPU; $(advice "$has")"
else
	why="with Vulkan, because of $has, on $on"
fi
log "using llama-server from the distribution's packages, $why; $other"
printf '%s\n' "$found"
