#!/bin/sh
# Before the files are unpacked (deb: preinst; rpm: %pre). It refuses to mix with an installation of scripts/install.sh, whose unit and
# program would hide those of the package.
set -e

if [ -e /usr/local/bin/llmsup ] && grep -qs '^ExecStart=/usr/local/bin/llmsup ' /etc/systemd/system/llmsup.service; then
	echo "llmsup: scripts/install.sh has installed llmsup here. Remove that first, which keeps the configuration and the state: scripts/install.sh --uninstall" >&2
	exit 1
fi
