#!/bin/sh
# Installs the missing Debian packages that the tests need, and with the argument
# "bench" also those that the benchmark needs. Prints nothing if no package is
# missing. Without root or sudo it prints the command to run and exits with 1.
set -eu

missing=""

# need PACKAGE COMMAND...: adds PACKAGE to the missing ones if COMMAND fails.
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

PATH=$PATH:/usr/sbin:/sbin
need iproute2 command -v ip                  # the tests read addresses with it
need nftables command -v nft                 # the tests disconnect a host with its firewall
need nginx-light command -v nginx            # a web server behind the address
need curl command -v curl                    # its client
need jq command -v jq                        # the hooks in examples/cloud read JSON with it
need shellcheck command -v shellcheck        # it reads those hooks
need gcc command -v gcc                      # the race detector needs it
need libc6-dev test -e /usr/include/stdlib.h # the race detector needs it
if [ "${1-}" = bench ]; then
	need keepalived command -v keepalived # its service does not start without a configuration
	need iputils-arping command -v arping # the script below "consul lock" announces with it
	need wrk command -v wrk               # its client
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
	echo "missing packages, install them; on Debian:" >&2
	echo "  sudo apt-get install --no-install-recommends$missing" >&2
	exit 1
fi

echo "installing:$missing" >&2
# shellcheck disable=SC2086 # both are lists of words
{
	$sudo apt-get update -qq
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
} >&2

