#!/usr/bin/env bash
# Finds the machine's package mirror. packages.sh, systemd-tree.sh and fresh.sh source this file.

# mirror prints "KIND URL": the distribution and its mirror in apt's sources.
mirror() {
	local origin label url release id codename
	# shellcheck source=/dev/null
	read -r id codename < <(. /etc/os-release && echo "${ID:-none} ${VERSION_CODENAME:-none}") || true
	while IFS='|' read -r origin label url release; do
		case $origin/$label in
		Debian/Debian | Ubuntu/Ubuntu) id=${origin,} ;;
		*ORIGIN*) # before the first apt-get update only the sources are known
			case $id in debian | ubuntu) ;; *) continue ;; esac
			case $release in "$codename" | stable | testing | unstable | sid | devel) ;; *) continue ;; esac
			;;
		*) continue ;;
		esac
		case $release in *-security) continue ;; esac
		printf '%s %s\n' "$id" "$url"
		return
	done < <(
		# shellcheck disable=SC2016 # variables of apt
		for known in --release-info --no-release-info; do
			apt-get indextargets "$known" --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' 'Component: main'
		done 2>/dev/null
	)
	return 1
}
