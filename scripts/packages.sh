#!/usr/bin/env bash
# Unpacks a program of a newer release of the distribution into the cache folder, without root. llama-server.sh and whisper-server.sh
# source this file. They define works FILE, which checks a program, and own, which says how else to install it. They may set extra, to
# packages that the program can do without, and define without_extra FOLDER, which takes them out of a folder where it fails with them;
# and later, to keep a program that was made without extra.
# shellcheck disable=SC2154 # run.sh sets root, and they set own
extra='' later=''

# shellcheck source=scripts/mirror.sh
. "$root/scripts/mirror.sh"

# unpack FOLDER PACKAGE NOT... downloads a package, $extra where there are such, and their dependencies, but for NOT and theirs, with a
# separate apt state, and unpacks them to FOLDER/root.
unpack() {
	local to=$1 wanted=$2 apt=$1/apt kind url suites components suite keyring signed='' arch package packages deb
	shift 2
	read -r kind url < <(mirror) || die "apt's sources have no mirror of Debian or Ubuntu: $own"
	arch=$(dpkg --print-architecture)
	case $kind in
	debian) suites='testing unstable' components='main' ;; # a package can be out of testing for some weeks
	ubuntu) suites='devel' components='main universe' ;; # not tested: written from Ubuntu's documentation
	esac
	for keyring in /usr/share/keyrings/"$kind"-archive-keyring.{gpg,pgp}; do
		if [[ -r $keyring ]]; then signed=" signed-by=$keyring" && break; fi
	done

	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
	for package; do # it counts as installed
		printf '%s\n' "Package: $package" 'Status: install ok installed' 'Version: 999:1' "Architecture: $arch" \
			'Multi-Arch: foreign' 'Maintainer: none' 'Description: none' ''
	done >"$apt/status"
	# Ignore the machine's hooks, pins and exceptions.
	cat >"$apt/conf" <<-'END'
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear AptCli::Hooks;
		APT::Default-Release "";
		APT::Sandbox::User "root";
		APT::Get::AllowUnauthenticated "false";
		Acquire::AllowInsecureRepositories "false";
		Acquire::AllowWeakRepositories "false";
		Acquire::AllowDowngradeToInsecureRepositories "false";
		APT::Update::Error-Mode "any";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
		Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
		Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
	END
	local get=(apt-get -qq -c "$apt/conf" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status"
		-o Dir::State::extended_states="$apt/extended" -o Dir::Cache="$apt/cache" -o Dir::Cache::archives=archives
		-o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin -o Dir::Log="$apt"
		-o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null)

	for packages in ${extra:+"$wanted $extra"} "$wanted"; do
		for suite in $suites; do
			printf 'deb [arch=%s%s] %s %s %s\n' "$arch" "$signed" "$url" "$suite" "$components" >"$apt/sources.list"
			rm -f "$apt"/cache/*.bin
			"${get[@]}" update >>"$apt/log" 2>&1 || break 2
			# shellcheck disable=SC2086 # one or several
			if "${get[@]}" install --download-only --yes --no-install-recommends -o APT::Install-Suggests=false $packages >>"$apt/log" 2>&1; then
				mkdir "$to/root"
				for deb in "$apt"/cache/archives/*.deb; do dpkg -x "$deb" "$to/root" || die "could not unpack ${deb##*/}; see above"; done
				rm -rf "$apt" "$to/root/usr/share"
				return
			fi
		done
	done
	grep '^[EW]:' "$apt/log" | tail -n 5 >&2 || tail -n 5 "$apt/log" >&2
	die "could not get $wanted for $arch from $url ($suites): see apt's lines above and try again, or $own"
}

# wrap FOLDER PROGRAM writes FOLDER/PROGRAM, which runs the unpacked one with its own loader and libraries.
wrap() {
	local to=$1 program=$2 backend loaders
	loaders=("$to"/root/usr/lib/*/ld*.so.[0-9]*)
	[[ -x ${loaders[0]} && -x $to/root/usr/bin/$program ]] || die "the packages have no program and loader in usr/bin and usr/lib: $own"
	local loader=${loaders[0]#"$to/"}
	# ggml searches for its backends beside the executable, which is the loader here, and uses the best for this CPU.
	for backend in "$to/${loader%/*}"/ggml/backends*/*.so; do
		ln -s "${backend#"$to/${loader%/*}/"}" "$to/${loader%/*}/"
	done
	cat >"$to/$program" <<-END
		#!/bin/sh
		# Written by llmsup's scripts/packages.sh. It execs, so that $program itself gets its signals.
		here=\$(readlink -f -- "\$0") && here=\${here%/*}
		lib=\$here/${loader%/*}
		exec "\$here/$loader" --library-path "\$lib:\$lib/llama\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" "\$here/root/usr/bin/$program" "\$@"
	END
	chmod 755 "$to" "$to/$program"
}

# make FOLDER PROGRAM PACKAGE NOT... makes a program that works.
make() {
	local to=$1 program=$2
	unpack "$to" "${@:3}"
	wrap "$to" "$program"
	if [[ -n $extra ]]; then printf '%s\n' "$extra" >"$to/extra"; fi
	if works "$to/$program"; then return; fi
	if [[ -n $extra ]] && without_extra "$to" && works "$to/$program"; then return; fi
	die "the $program of the packages does not work on this machine: $own"
}

# has_extra FILE reports whether a program was made with the packages in extra, as far as there were such.
has_extra() { [[ -z $extra || $(cat "${1%/*}/extra" 2>/dev/null) == "$extra" ]]; }

# suffices FILE reports whether a program works and need not be made again.
suffices() { works "$1" && { [[ -n $later ]] || has_extra "$1"; }; }

# cached PROGRAM MEGABYTES PACKAGE NOT... prints the path of the program in the cache folder. It makes it, if it is not there, does
# not work any more, or was made without extra; one without extra is kept if another one cannot be made.
cached() {
	local program=$1 megabytes=$2 cache made old
	need_home
	cache=${LLMSUP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/llmsup}/$program
	case $cache in
	/*) ;;
	*) cache=$PWD/$cache ;;
	esac
	case $cache in
	*[:\;]*) die "the path of the cache, $cache, must not contain a colon or semicolon: set LLMSUP_CACHE_DIR to another folder" ;;
	esac
	made=$cache/$(dpkg --print-architecture 2>/dev/null || uname -m)/$program

	if ! suffices "$made"; then
		{ command -v apt-get && command -v dpkg; } >/dev/null || die "no $program on PATH, and no apt to download one: $own"
		if ! { mkdir -p "$cache" && exec 9>"$cache/lock"; } 2>/dev/null; then
			works "$made" || die "cannot write to $cache: set LLMSUP_CACHE_DIR to a writable folder"
			printf '%s\n' "$made"
			return
		fi
		flock --nonblock 9 || during "waiting for another ${0##*/}" "usually less than a minute" flock 9
		old=
		if works "$made"; then old=yes; fi
		if ! { [[ -n $old ]] && has_extra "$made"; }; then # check again, with the lock
			rm -rf "$cache"/.new.*
			new=$(mktemp -d "$cache/.new.XXXXXX")
			trap 'rm -rf "$new"' EXIT
			if during "downloading $program from the distribution's packages" "about $megabytes MB, once; usually 10 s to a minute" \
				make "$new" "$program" "${@:3}"; then
				if [[ -e ${made%/*} ]]; then mv "${made%/*}" "$new/old"; fi
				mv -T "$new" "${made%/*}"
				rm -rf "${made%/*}/old"
			elif [[ -z $old ]]; then
				exit 1
			fi
		fi
		exec 9>&-
	fi
	printf '%s\n' "$made"
}
