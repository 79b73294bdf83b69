#!/bin/sh
# After the files are removed (deb: postrm remove, purge; rpm: %postun 0). Configuration, credentials and state stay, unless the package
# is purged. The user stays even then, as files elsewhere may belong to it.
set -e

case $1 in
remove | purge | 0) ;;
*) exit 0 ;;
esac
if [ "$1" = purge ]; then
	rm -rf /etc/llmsup /var/lib/llmsup /run/llmsup /etc/systemd/system/llmsup.service.d /etc/systemd/system/llmsup.socket.d
	# What service-llama-server.sh has installed.
	if [ "$(readlink /usr/local/bin/llama-server)" = /usr/local/lib/llmsup/llama-server/llama-server ]; then rm -f /usr/local/bin/llama-server; fi
	rm -rf /usr/local/lib/llmsup
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl --quiet reset-failed llmsup.socket llmsup.service 2>/dev/null || true
fi
