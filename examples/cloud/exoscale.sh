#!/bin/sh
# A hook for consul-vip: attaches an Elastic IP of Exoscale to this instance when the agent
# acquires the address's lock, detaches it from every other instance, and detaches it from this
# one when the lock is gone. README.md says how to install it and what its messages mean. It
# needs curl and jq.
#
# Settings, from the environment, all optional:
#   EXOSCALE_API_KEY, EXOSCALE_API_SECRET  the API key and its secret
#   EXOSCALE_CREDENTIALS_FILE   the file with the key in its first line and the secret in its
#                               second, if they are not set (/etc/consul-vip/exoscale.credentials)
#   EXOSCALE_ZONE               the zone; by default, the metadata service tells it
#   EXOSCALE_INSTANCE_ID        the ID of this instance; by default, likewise
#   EXOSCALE_ELASTIC_IP_ID      the ID of the Elastic IP; by default, it is found by its address
#   EXOSCALE_INSTANCES          the IDs of the instances that may have the address, separated by
#                               spaces; by default, all instances of the zone
#   EXOSCALE_TIMEOUT            seconds until the script gives up; less than the hook's timeout (25)
#   EXOSCALE_API_ENDPOINT       the API (https://api-ZONE.exoscale.com/v2)
#   EXOSCALE_METADATA           the metadata service (http://169.254.169.254/latest/meta-data)
#
# It prints one line. Its exit code is 0 if the address is where it should be.
set -eu
export LC_ALL=C

metadata=${EXOSCALE_METADATA:-http://169.254.169.254/latest/meta-data}
credentials=${EXOSCALE_CREDENTIALS_FILE:-/etc/consul-vip/exoscale.credentials}
deadline=$(($(date +%s) + ${EXOSCALE_TIMEOUT:-25}))
newline='
'

# fail WORD...: prints the line that the agent logs and shows as the hook's error.
fail() {
	printf '%s\n' "$*" >&2
	exit 1
}

# curl_error TEXT: the message of curl in its output.
curl_error() {
	message=$(printf '%s' "$1" | sed -n 's/.*curl: ([0-9]*) //p' | head -n 1)
	printf '%s' "${message:-curl failed}"
}

# json [OPTION...] FILTER: what jq prints for the API's last answer; nothing if it does not fit.
json() {
	printf '%s' "$answer" | jq -r "$@" 2>/dev/null || :
}

# xor HEX NUMBER: writes the bytes that HEX spells, each combined with NUMBER by exclusive or.
xor() {
	rest=$1
	while [ -n "$rest" ]; do
		byte=${rest%"${rest#??}"}
		byte=$((0x$byte ^ $2))
		rest=${rest#??}
		printf '%b' "\\0$((byte / 64))$((byte / 8 % 8))$((byte % 8))"
	done
}

# sha256: the hash of the standard input, in hexadecimal digits.
sha256() {
	sha256sum | cut -c 1-64
}

# signature MESSAGE: HMAC-SHA256 of RFC 2104 under the secret, in Base64. openssl could do this
# only with the secret among its arguments, which any user can read. Here the secret passes
# through pipes from commands that are built into the shell.
signature() {
	key=$(printf '%s' "$secret" | od -An -v -tx1 | tr -d ' \n')
	[ ${#key} -le 128 ] || key=$(printf '%s' "$secret" | sha256)
	while [ ${#key} -lt 128 ]; do
		key=${key}00
	done
	inner=$({ xor "$key" 0x36 && printf '%s' "$1"; } | sha256)
	outer=$({ xor "$key" 0x5c && xor "$inner" 0; } | sha256)
	xor "$outer" 0 | base64
}

# line FILTER: likewise, on one line of limited length.
line() {
	json "$1 | tostring | gsub(\"[[:cntrl:]]\"; \" \") | .[:200]"
}

# request METHOD PATH [BODY]: sends one signed request and sets answer to the JSON that came
# back. If it fails, it returns 1 and sets problem to the reason. It does not repeat a request,
# also not after HTTP 429: the agent runs the whole hook again, after 1 s at first and every 30 s
# later. The signature: https://openapi-v2.exoscale.com/topic/topic-api-request-signature
request() {
	answer='' status=''
	now=$(date +%s)
	left=$((deadline - now))
	[ "$left" -lt 10 ] || left=10
	if [ "$left" -le 0 ]; then
		problem="no time left for this request"
		return 1
	fi
	expires=$((now + 600))
	url=$api$2
	signed=$(signature "$1 $base$2$newline${3-}$newline$newline$newline$expires")
	[ -z "${3-}" ] || set -- "$1" "$2" -H 'Content-Type: application/json' -d "$3"
	method=$1
	shift 2
	if ! answer=$(printf 'header = "Authorization: EXO2-HMAC-SHA256 credential=%s,expires=%s,signature=%s"\n' \
		"$access" "$expires" "$signed" |
		curl -q -sS -K - --connect-timeout 5 --max-time "$left" -X "$method" \
			-w '\n%{http_code} %{content_type}' "$@" "$url" 2>&1); then
		problem=$(curl_error "$answer")
		return 1
	fi
	type=${answer##*"$newline"}
	status=${type%% *}
	type=${type#* }
	answer=${answer%"$newline"*}
	if [ "$(json type)" != object ]; then
		problem="HTTP $status, but the answer is not a JSON object (${type:-no content type})"
		return 1
	fi
	case $status in
	2??) return 0 ;;
	esac
	problem="HTTP $status: $(line '.message // .error // .detail // .title // "no message"')"
	return 1
}

# change attach|detach INSTANCE: starts the operation and waits until it has ended. If it fails,
# it returns 1 and sets problem.
# https://community.exoscale.com/reference/api/compute/elastic-ip/ (attach-instance-to-elastic-ip,
# detach-instance-from-elastic-ip), https://community.exoscale.com/reference/api/ (get-operation)
change() {
	request PUT "/elastic-ip/$eip:$1" "{\"instance\":{\"id\":\"$2\"}}" || return 1
	operation=$(json '.id // "unknown"')
	while :; do
		case $(json '.state // "unknown"') in
		success) return 0 ;;
		pending) ;;
		failure | timeout)
			problem=$(line '"\(.state): \(.message // "no message") (\(.reason // "no reason"))"')
			problem="the operation ended with $problem"
			return 1
			;;
		*)
			problem="the API answers with an operation of unknown state"
			return 1
			;;
		esac
		if [ "$(date +%s)" -ge $((deadline - 1)) ]; then
			problem="operation $operation is still pending"
			return 1
		fi
		sleep 1
		if ! request GET "/operation/$operation"; then
			problem="reading operation $operation: $problem"
			return 1
		fi
	done
}

# find_elastic_ip sets eip to the ID of the address.
# https://community.exoscale.com/reference/api/compute/elastic-ip/ (list-elastic-ips)
find_elastic_ip() {
	eip=${EXOSCALE_ELASTIC_IP_ID-}
	[ -z "$eip" ] || return 0
	request GET /elastic-ip || fail "listing the Elastic IPs: $problem"
	# shellcheck disable=SC2016 # the variable is jq's
	eip=$(json --arg ip "$address" '.["elastic-ips"][]? | select(.ip == $ip) | .id')
	[ -n "$eip" ] || fail "no Elastic IP of zone $zone has the address $address"
}

# has INSTANCE: sets attached to yes if the address is attached to the instance, else to no, also
# if there is no such instance.
# https://community.exoscale.com/reference/api/compute/instance/ (get-instance)
has() {
	attached=no
	if ! request GET "/instance/$1"; then
		[ "$status" = 404 ] || fail "reading instance $1: $problem"
		return 0
	fi
	# shellcheck disable=SC2016 # the variable is jq's
	attached=$(json --arg eip "$eip" 'if any(.["elastic-ips"][]?; .id == $eip) then "yes" else "no" end')
}

# attach attaches the address to this instance and then detaches it from all others: an Elastic IP
# can have several, a dead host keeps it, and traffic goes to all of them.
attach() {
	find_elastic_ip
	what="attaching Elastic IP $address to instance $instance"
	has "$instance"
	report="Elastic IP $address is already attached to instance $instance"
	if [ "$attached" != yes ]; then
		change attach "$instance" || fail "$what: $problem"
		report="attached Elastic IP $address to instance $instance"
	fi
	others=${EXOSCALE_INSTANCES-}
	if [ -z "$others" ]; then
		# list-instances has no Elastic IPs in its answer.
		request GET /instance || fail "attached Elastic IP $address, but listing the other instances failed: $problem"
		others=$(json '.instances[]?.id')
	fi
	for other in $others; do
		[ "$other" != "$instance" ] || continue
		if detach_from "$other"; then
			report="$report, detached it from $other"
		fi
	done
	echo "$report"
}

# detach_from INSTANCE detaches the address. It returns 1 if the instance did not have it.
detach_from() {
	has "$1"
	[ "$attached" = yes ] || return 1
	change detach "$1" && return 0
	# The instance itself may have been faster.
	reason=$problem
	has "$1"
	[ "$attached" = yes ] || return 1
	fail "detaching Elastic IP $address from instance $1: $reason"
}

# detach takes the address from this instance only, so it cannot take it from the new owner.
detach() {
	find_elastic_ip
	if detach_from "$instance"; then
		echo "detached Elastic IP $address from instance $instance"
	else
		echo "Elastic IP $address is not attached to instance $instance"
	fi
}

# read_credentials sets access and secret. The key's characters are checked because it becomes
# part of curl's configuration; of the secret, only the signature leaves the script.
read_credentials() {
	access=${EXOSCALE_API_KEY-}
	secret=${EXOSCALE_API_SECRET-}
	if [ -z "$access" ] || [ -z "$secret" ]; then
		[ -r "$credentials" ] || fail "the credentials file $credentials is missing or not readable"
		{
			read -r access || :
			read -r secret || :
		} <"$credentials"
	fi
	case $access in
	'' | *[!A-Za-z0-9_-]*) fail "the API key is empty or has characters that no key has" ;;
	esac
	[ -n "$secret" ] || fail "the API secret is empty"
}

# about NAME: what the metadata service says about this instance; words and digits only.
# https://community.exoscale.com/documentation/compute/cloud-init/
about() {
	text=$(curl -q -sS --noproxy '*' --connect-timeout 2 --max-time 5 "$metadata/$1" 2>&1) ||
		fail "the metadata service does not tell $1: $(curl_error "$text")"
	case $text in
	'' | *[!A-Za-z0-9-]*) fail "the metadata service does not answer with $1" ;;
	esac
	printf '%s' "$text"
}

case ${CONSUL_VIP_HOOK_EVENT-} in
acquired | released | lost | conflict) ;;
*) exit 0 ;;
esac
address=${CONSUL_VIP_HOOK_ADDRESS:?}
for program in curl jq; do
	command -v "$program" >/dev/null || fail "$program is not installed"
done
read_credentials
instance=${EXOSCALE_INSTANCE_ID:-$(about instance-id)}
zone=${EXOSCALE_ZONE:-$(about availability-zone)}
api=${EXOSCALE_API_ENDPOINT:-https://api-$zone.exoscale.com/v2}
base=/${api#*://*/} # the path, which is part of what is signed
case $CONSUL_VIP_HOOK_EVENT in
acquired) attach ;;
*) detach ;;
esac
