#!/bin/sh
# Installs the Debian packages that the tests need and that are missing; with the
# argument "bench" also those that the benchmark compares with. Silent if there's
# nothing to do. Where it may not install, it says what to run.
set -eu

missing=""

# need PACKAGE TEST…: the package is missing if the test fails.
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

PATH=$PATH:/usr/sbin:/sbin
need iproute2 command -v ip                  # what the tests read addresses by
need nftables command -v nft                 # the firewall that cuts a host off
need gcc command -v gcc                      # the race detector
need libc6-dev test -e /usr/include/stdlib.h # the same
if [ "${1-}" = bench ]; then
	need keepalived command -v keepalived # without a configuration its service doesn't start
	need iputils-arping command -v arping # for the script that "consul lock" runs
fi

[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
	sudo=""
elif sudo -n true 2>/dev/null; then
	sudo="sudo -n"
else
	sudo=no
fi
if [ "$sudo" = no ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "missing packages; please install them, on Debian by:" >&2
	echo "  sudo apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

echo "installing:$missing" >&2
# shellcheck disable=SC2086 # both are lists of words
{
	$sudo apt-get update -qq
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
} >&2

