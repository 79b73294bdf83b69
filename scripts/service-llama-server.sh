#!/usr/bin/env bash
# scripts/service-llama-server.sh
#
# Installs a llama-server for the service llmsup, unless one is on its PATH: copies
# the one that scripts/llama-server.sh finds or downloads to
# /usr/local/lib/llmsup/llama-server, where the service's user can read it, and
# links it into /usr/local/bin. Needs root. It can be run again.
set -euo pipefail

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

case ${1:-} in
'') ;;
-h | --help) usage ;;
*) die "it takes no argument $1; see --help" ;;
esac
[[ $(id -u) == 0 ]] || die "this needs root: sudo $0"
umask 022 # the service's user can read what is installed

config=/etc/llmsup/llmsup.yaml
engine=/usr/local/lib/llmsup/llama-server/llama-server
link=/usr/local/bin/llama-server
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

cache=${LLMSUP_CACHE_DIR:-}
if [[ -z $cache && -n ${SUDO_USER:-} ]]; then # scripts/run.sh may have downloaded it for this user
	home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
	for found in "$home"/.cache/llmsup/llama-server/*/llama-server; do
		if [[ -x $found ]]; then cache=$home/.cache/llmsup; fi
	done
fi
found=$(PATH=$path LLMSUP_LLAMA_SERVER='' LLMSUP_CACHE_DIR=$cache "$root/scripts/llama-server.sh")
if ! from_packages "$found" || [[ $(realpath -- "$found") == "$engine" ]]; then exit; fi # it is installed already
log "copying $found to ${engine%/*}"
mkdir -p "${engine%/llama-server/*}"
rm -rf "${engine%/*}.new"
cp -R --preserve=mode,links,timestamps "$(realpath -- "${found%/*}")" "${engine%/*}.new"
chmod -R a+rX,u+w "${engine%/*}.new"
rm -rf "${engine%/*}"
mv -T "${engine%/*}.new" "${engine%/*}"
if [[ -e $link && ! $link -ef $engine ]]; then
	log "$link fails with --version: remove it, or set another one in $config (example: llama_server: $engine)"
else
	mkdir -p "${link%/*}"
	ln -sfn "$engine" "$link"
fi
