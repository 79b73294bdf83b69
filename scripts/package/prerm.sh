#!/bin/sh
# Before the files are removed (deb: prerm remove; rpm: %preun 0). An upgrade changes nothing here: llmsup runs on.
set -e

case $1 in
remove | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then systemctl --quiet stop llmsup.socket llmsup.service; fi
systemctl --quiet disable llmsup.socket llmsup.service
rm -f /etc/systemd/system/*.wants/llmsup.socket /etc/systemd/system/*.wants/llmsup.service # which disable leaves of a masked unit
rm -rf /usr/lib/systemd/system/llmsup.service.d
