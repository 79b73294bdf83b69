#!/usr/bin/env bash
# scripts/package.sh [--version VERSION] [--out FOLDER] [ARCHITECTURE...]
# scripts/package.sh --binary FILE [--format deb|rpm|tar.gz] [the same options]
#
# Makes a .deb, an .rpm and a tarball for amd64 and arm64 (or the given ones), and
# SHA256SUMS, in FOLDER (bin/packages). The version is that of git describe, or
# VERSION (example: v1.2.3). The binaries use the C library of Debian 11
# (scripts/sysroot.sh), so they run there and on all newer systems. The same
# commit and Go give the same files, byte for byte.
#
# --binary packages FILE for this machine's architecture instead of building;
# --format makes only one of the three. Both are for tests.
#
# Needs git, Go, gcc, and a cross compiler for other architectures (on amd64:
# gcc-aarch64-linux-gnu). nfpm, which writes the packages, is built once into the
# cache folder.
set -euo pipefail
export LC_ALL=C

# shellcheck source=scripts/run.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/run.sh"

nfpm_version=2.45.2

version=
out=$root/bin/packages
binary=
formats='deb rpm tar.gz'
archs=()
while (($#)); do
	case $1 in
	--version | --out | --binary | --format)
		[[ -n ${2:-} ]] || die "$1 needs a value; see --help"
		case $1 in
		--version) version=$2 ;;
		--out) out=$2 ;;
		--binary) binary=$2 ;;
		--format)
			[[ " $formats " == *" $2 "* ]] || die "--format takes one of $formats"
			formats=$2
			;;
		esac
		shift
		;;
	-h | --help) usage ;;
	amd64 | arm64) archs+=("$1") ;;
	*) die "unknown argument $1: see --help" ;;
	esac
	shift
done
if [[ -n $binary ]]; then
	((${#archs[@]} == 0)) || die "--binary is for this machine's architecture; it goes with no other"
	[[ -x $binary ]] || die "no program $binary"
fi
need_home
need_go ./cmd/llmsup
native=$(go env GOHOSTARCH)
if [[ -n $binary ]]; then archs=("$native"); fi
((${#archs[@]})) || archs=(amd64 arm64)

in_git() { git --no-optional-locks -c safe.directory="$root" -C "$root" "$@"; }
[[ -n $version ]] || version=$(in_git describe --tags --always --dirty) || die "this is no git checkout: pass --version VERSION"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(in_git log -1 --format=%ct 2>/dev/null || date +%s)}

# The packages' version: v1.2.3 is 1.2.3, four commits later is 1.2.3+4.gHASH, and a commit before the first release is
# 0~gitTIME.HASH, which sorts before all releases.
case $version in
v[0-9]*) number=${version#v} number=${number/-dirty/+dirty} ;;
[0-9]*.[0-9]*) number=$version ;;
*) number=0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).${version//-/.} ;;
esac
if [[ $number =~ ^([0-9.]+)-([0-9]+)-(g[0-9a-f]+.*)$ ]]; then number=${BASH_REMATCH[1]}+${BASH_REMATCH[2]}.${BASH_REMATCH[3]}; fi
number=${number//-/\~} # 1.2.3-rc1 sorts before 1.2.3
[[ $number =~ ^[0-9][0-9A-Za-z.+~]*$ ]] || die "$version cannot be the version of a package: it takes letters, digits, and . + - ~"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# get_nfpm sets nfpm, and builds it once per version.
get_nfpm() {
	local cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/nfpm new
	case $cache in /*) ;; *) cache=$PWD/$cache ;; esac
	nfpm=$cache/$nfpm_version/nfpm
	if [[ -x $nfpm ]]; then return; fi
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
	if [[ ! -x $nfpm ]]; then
		new=$(mktemp -d "$cache/.new.XXXXXX")
		GOBIN=$new GOFLAGS='' CGO_ENABLED=0 during "building nfpm $nfpm_version" "once; about a minute" \
			go install -ldflags '-s -w' "github.com/goreleaser/nfpm/v2/cmd/nfpm@v$nfpm_version" || die "could not build nfpm: see above"
		mv -T "$new" "${nfpm%/*}"
	fi
	exec 9>&-
}

# build ARCH FILE compiles llmsup with Debian 11's C library.
build() {
	local arch=$1 cc=gcc triple=x86_64-linux-gnu sys
	if [[ $arch == arm64 ]]; then triple=aarch64-linux-gnu; fi
	if [[ $arch != "$native" ]]; then cc=$triple-gcc; fi
	command -v "$cc" >/dev/null || die "no $cc: apt-get install ${cc/%gcc/}gcc${cc#"${cc%gcc}"}"
	if sys=$("$root/scripts/sysroot.sh" "$arch"); then
		cc+=" --sysroot=$sys -B$sys/usr/lib/$triple -L$sys/usr/lib/$triple -isystem $sys/usr/include/$triple -isystem $sys/usr/include"
	else
		log "note: linking with the C library of this machine, so these packages run only where it is as new"
	fi
	CC=$cc CGO_ENABLED=1 CGO_CFLAGS="-g -O2 -Wno-deprecated-declarations" GOOS=linux GOARCH=$arch GOFLAGS='' GOAMD64=v1 \
		during "compiling llmsup $version for $arch" "one or two minutes" \
		in_root go build -buildmode=pie -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$2" ./cmd/llmsup || die "the build failed; see above"
}

# licences prints the licences of Go and of the modules in llmsup.
licences() {
	local path dir file
	while read -r path dir; do
		printf '\n== %s\n\n' "$path"
		for file in "$dir"/{LICENSE,LICENCE,COPYING,NOTICE}*; do
			[[ -f $file ]] || continue
			if grep -q 'Apache License' "$file" && grep -q 'TERMS AND CONDITIONS' "$file"; then
				printf 'Licensed under the Apache License, version 2.0 (see above).\n\n'
			else
				cat "$file" && echo
			fi
		done
	done < <(
		echo "Go $(go env GOROOT)"
		in_root go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/llmsup | sort -u
	)
}

# stage BINARY FOLDER lays out the files of a package. What does not depend on the architecture comes from $runs.
stage() {
	local tree=$2 doc=$2/usr/share/doc/llmsup file
	install -D "$1" "$tree/usr/bin/llmsup"
	for file in run mirror packages llama-server service-check service-llama-server; do
		install -D "$root/scripts/$file.sh" "$tree/usr/lib/llmsup/scripts/$file.sh"
	done
	mkdir -p "$tree"/usr/lib/systemd/system "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,man/man1} "$doc/examples"
	sed 's|^ExecStart=/usr/local/bin/|ExecStart=/usr/bin/|' "$root/systemd/llmsup.service" >"$tree/usr/lib/systemd/system/llmsup.service"
	cp "$root/systemd/llmsup.socket" "$tree/usr/lib/systemd/system/"
	install -Dm 644 "$root/systemd/llmsup.sysusers" "$tree/usr/lib/sysusers.d/llmsup.conf"
	install -Dm 644 "$root/systemd/llmsup.tmpfiles" "$tree/usr/lib/tmpfiles.d/llmsup.conf"
	install -Dm 644 "$root/systemd/llmsup.yaml" "$tree/etc/llmsup/llmsup.yaml"
	install -Dm 644 "$root/systemd/llmsup.yaml.example" "$tree/etc/llmsup/llmsup.yaml.example"
	"$runs" completion bash >"$tree/usr/share/bash-completion/completions/llmsup"
	"$runs" completion zsh >"$tree/usr/share/zsh/vendor-completions/_llmsup"
	"$runs" completion fish >"$tree/usr/share/fish/vendor_completions.d/llmsup.fish"
	"$runs" man | gzip -9n >"$tree/usr/share/man/man1/llmsup.1.gz"
	cp "$root"/scripts/{alerts.yml,grafana-dashboard.json} "$root/systemd/apt-drain.conf" "$doc/examples/"
	cp "$work/copyright" "$doc/copyright"
	install -Dm 644 "$root/scripts/package/lintian-overrides" "$tree/usr/share/lintian/overrides/llmsup"
	gzip -9n <"$root/.github/CHANGELOG.md" >"$doc/changelog.gz"
}

# describe ARCH TREE prints nfpm's description of the package.
describe() {
	local arch=$1 tree=$2 glibc file mode kind
	# Debian 11's, the oldest that was tried, or a newer one that the program needs.
	glibc=$({ echo 2.31 && objdump -T "$tree/usr/bin/llmsup" | grep -oP 'GLIBC_\K[0-9.]+'; } | sort -V | tail -n 1)
	cat <<-END
		name: llmsup
		arch: $arch
		platform: linux
		version: "$number"
		version_schema: none
		release: "1"
		section: net
		priority: optional
		maintainer: "llmsup developers <llmsup@users.noreply.github.com>"
		vendor: llmsup
		homepage: https://github.com/llmsup/llmsup
		license: Apache-2.0
		mtime: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
		changelog: $work/changelog.yaml
		description: |-
		  OpenAI-compatible endpoint on llama-server, with a cloud fallback
		  llmsup runs llama-server (llama.cpp) on a GPU box and keeps it running. It
		  serves the OpenAI and Anthropic APIs, answers each call with a local model
		  where it can, and moves it to OpenRouter where it cannot. It has client keys,
		  budgets, a ledger of all calls, models on demand, and a web page.
		scripts:
		  preinstall: $root/scripts/package/preinst.sh
		  postinstall: $root/scripts/package/postinst.sh
		  preremove: $root/scripts/package/prerm.sh
		  postremove: $root/scripts/package/postrm.sh
		overrides:
		  deb:
		    depends: ["libc6 (>= $glibc)", systemd]
		    recommends: [ca-certificates, llama.cpp-tools, libggml0-backend-vulkan]
		  rpm:
		    depends: ["glibc >= $glibc", systemd, bash]
		    recommends: [ca-certificates]
		deb:
		  compression: gzip # nfpm's xz takes a minute, for 6 %
		rpm:
		  group: Applications/Internet
		  summary: OpenAI-compatible endpoint on llama-server, with a cloud fallback
		  compression: gzip
		  buildhost: llmsup
		contents:
		  - {dst: /usr/lib/llmsup, type: dir}
		  - {dst: /usr/lib/llmsup/scripts, type: dir}
		  - {dst: /usr/share/doc/llmsup, type: dir}
		  - {dst: /usr/share/doc/llmsup/examples, type: dir}
	END
	while IFS= read -r file; do
		mode=0644 kind=
		if [[ -x $tree/$file ]]; then mode=0755; fi
		case $file in
		etc/*) kind=', type: config|noreplace' ;;
		usr/share/lintian/*) kind=', packager: deb' ;;
		usr/share/zsh/*) # Debian and Fedora have different folders
			echo "  - {src: $tree/$file, dst: /usr/share/zsh/site-functions/_llmsup, packager: rpm, file_info: {mode: $mode}}"
			kind=', packager: deb'
			;;
		esac
		echo "  - {src: $tree/$file, dst: /$file$kind, file_info: {mode: $mode}}"
	done < <(cd "$tree" && find . -type f -printf '%P\n' | sort)
}

# tarball BINARY ARCH makes one with the scripts that install it.
tarball() {
	local name=llmsup-$number-linux-$2 file
	mkdir -p "$work/$name"/{scripts,systemd}
	install "$1" "$work/$name/llmsup"
	cp "$root/LICENSE" "$work/copyright" "$work/$name/"
	for file in run mirror packages llama-server service-check service-llama-server install; do cp "$root/scripts/$file.sh" "$work/$name/scripts/"; done
	cp "$root"/scripts/{alerts.yml,grafana-dashboard.json} "$work/$name/scripts/"
	cp "$root"/systemd/{README.md,apt-drain.conf,llmsup.*} "$work/$name/systemd/"
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+w,go-w -C "$work" -c "$name" | gzip -9n >"$new/$name.tar.gz"
}

umask 022
get_nfpm
mkdir -p "$out"
new=$(mktemp -d "$out/.new.XXXXXX")
trap 'rm -rf "$work" "$new"' EXIT
{ cat "$root/scripts/package/copyright" && licences | sed 's/^$/./; s/^/ /'; } >"$work/copyright"
cat >"$work/changelog.yaml" <<-END
	- semver: "$number"
	  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
	  packager: llmsup developers <llmsup@users.noreply.github.com>
	  deb: {urgency: medium, distributions: [unstable]}
	  changes:
	    - note: "$version; /usr/share/doc/llmsup/changelog.gz says what has changed"
END
runs=$binary # a llmsup that runs here, for the texts that it prints
if [[ -z $runs ]]; then
	runs=$work/$native
	build "$native" "$runs"
fi
for arch in "${archs[@]}"; do
	built=$runs
	if [[ $arch != "$native" ]]; then
		built=$work/$arch
		build "$arch" "$built"
	fi
	stage "$built" "$work/tree-$arch"
	describe "$arch" "$work/tree-$arch" >"$work/$arch.yaml"
	for format in $formats; do
		case $format in
		tar.gz) tarball "$built" "$arch" ;;
		*)
			during "packing the .$format for $arch" "some seconds" "$nfpm" package --config "$work/$arch.yaml" --packager "$format" --target "$new/" ||
				die "nfpm failed; see above"
			;;
		esac
	done
done
(cd "$new" && sha256sum -- * >SHA256SUMS)
chmod 644 "$new"/*
rm -f "$out"/{llmsup[-_]*.{deb,rpm,tar.gz},SHA256SUMS}
mv "$new"/* "$out/"
(cd "$out" && ls -1sh -- *)
