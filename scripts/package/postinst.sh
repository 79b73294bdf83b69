#!/bin/sh
# After the files are unpacked (deb: postinst configure; rpm: %post 1 or 2). It enables and starts nothing. A running llmsup
# is restarted if llmsup check finds no error, and its calls wait for the new one at the socket; otherwise the old process continues.
set -e

unit=/usr/lib/systemd/system/llmsup.service
case $1 in
configure | 1 | 2) ;;
*) exit 0 ;;
esac

systemd-sysusers llmsup.conf
systemd-tmpfiles --create llmsup.conf || echo "llmsup: the permissions of /etc/llmsup are set when this system boots" >&2 # it needs /proc

# notify-reload came with systemd 253.
version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
if [ "$version" -lt 253 ]; then
	mkdir -p "$unit.d"
	# shellcheck disable=SC2016 # systemd's own variable
	printf '[Service]\nType=notify\nExecReload=/bin/sh -c "kill -HUP $MAINPID"\n' >"$unit.d/older-systemd.conf"
else
	rm -rf "$unit.d"
fi

if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
state=inactive restarts=0
if [ -d /run/systemd/system ]; then
	state=$(systemctl show --property ActiveState llmsup.service | cut -d= -f2)
	restarts=$(systemctl show --property NRestarts llmsup.service | cut -d= -f2)
fi
if [ "$state" = activating ] && [ "$restarts" -gt 0 ]; then
	echo "llmsup is failing: systemd starts it again and again, from now on with this version; journalctl -u llmsup -e shows why" >&2
elif [ "$state" != active ] && ! systemctl --quiet is-enabled llmsup.service 2>/dev/null; then
	cat <<-'END'
		llmsup is installed, and neither enabled nor started. Next:
		  1. name a model in /etc/llmsup/llmsup.yaml, under servers:
		  2. sudo /usr/lib/llmsup/scripts/service-check.sh         says what is missing
		  3. sudo systemctl enable --now llmsup.socket llmsup
	END
fi
if [ "$state" = active ]; then
	if command -v policy-rc.d >/dev/null && ! policy-rc.d llmsup restart >/dev/null; then
		echo "llmsup was not restarted, since policy-rc.d forbids it: the old process still runs"
	elif out=$(/usr/lib/llmsup/scripts/service-check.sh 2>&1); then
		# A failure is systemd's to report: the package itself is installed.
		if systemctl restart llmsup.service; then
			echo "llmsup was restarted: its configuration is valid"
		else
			echo "llmsup did not start: journalctl -u llmsup -e shows why" >&2
		fi
	else
		printf '%s\n' "$out" >&2
		echo "llmsup was not restarted: the old process still runs. Correct the errors above, then: systemctl restart llmsup" >&2
	fi
fi
