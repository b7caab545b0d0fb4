#!/bin/sh
# A hook for consul-vip: assigns a Floating IP of Hetzner Cloud to this server when the agent
# acquires the address's lock, and unassigns it when the lock is gone. README.md says how to
# install it and what its messages mean. It needs curl and jq.
#
# Settings, from the environment, all optional:
#   HCLOUD_TOKEN           the API token, with permission to read and write
#   HCLOUD_TOKEN_FILE      the file with the token in its first line, if HCLOUD_TOKEN is not set
#                          (/etc/consul-vip/hcloud.token)
#   HCLOUD_SERVER_ID       the ID of this server; by default, the metadata service tells it
#   HCLOUD_FLOATING_IP_ID  the ID of the Floating IP; by default, it is found by its IPv4 address
#   HCLOUD_UNASSIGN_DELAY  seconds to wait before unassigning, see unassign below (2)
#   HCLOUD_CONFIRM_DELAY   seconds to wait before looking once more, see assign below (5)
#   HCLOUD_TIMEOUT         seconds until the script gives up; less than the hook's timeout (25)
#   HCLOUD_ENDPOINT        the API (https://api.hetzner.cloud/v1)
#   HCLOUD_METADATA        the metadata service (http://169.254.169.254/hetzner/v1/metadata)
#
# It prints one line. Its exit code is 0 if the address is where it should be.
set -eu
export LC_ALL=C

api=${HCLOUD_ENDPOINT:-https://api.hetzner.cloud/v1}
metadata=${HCLOUD_METADATA:-http://169.254.169.254/hetzner/v1/metadata}
token_file=${HCLOUD_TOKEN_FILE:-/etc/consul-vip/hcloud.token}
deadline=$(($(date +%s) + ${HCLOUD_TIMEOUT:-25}))
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

# line FILTER: likewise, on one line of limited length.
line() {
	json "$1 | tostring | gsub(\"[[:cntrl:]]\"; \" \") | .[:200]"
}

# request METHOD PATH [BODY]: sends one request and sets answer to the JSON that came back. If
# it fails, it returns 1 and sets problem to the reason and code to the API's error code.
# It does not repeat a request: the agent runs the whole hook again, after 1 s at first and
# every 30 s later. This also suits HTTP 429, for which the API regains one request per
# second (https://docs.hetzner.cloud/reference/cloud#description/rate-limiting).
# The token goes to curl's standard input: any user can read a process's arguments.
request() {
	answer='' code=''
	left=$((deadline - $(date +%s)))
	[ "$left" -lt 10 ] || left=10
	if [ "$left" -le 0 ]; then
		problem="no time left for this request"
		return 1
	fi
	url=$api$2
	[ -z "${3-}" ] || set -- "$1" "$2" -H 'Content-Type: application/json' -d "$3"
	method=$1
	shift 2
	if ! answer=$(printf 'header = "Authorization: Bearer %s"\n' "$token" |
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
	code=$(line '.error.code? // "no code"')
	problem="HTTP $status: $(line '.error.message? // "no message"') ($code)"
	return 1
}

# finish WHAT: waits until the action in answer has ended.
# https://docs.hetzner.cloud/reference/cloud#tag/actions/get_action
finish() {
	action=$(json '.action.id // "unknown"')
	while :; do
		case $(json '.action.status // "unknown"') in
		success) return ;;
		running) ;;
		error) fail "$1: $(line '.action.error | "\(.message) (\(.code))"')" ;;
		*) fail "$1: the API answers with an action of unknown status" ;;
		esac
		[ "$(date +%s)" -lt $((deadline - 1)) ] || fail "$1: action $action is still running"
		sleep 1
		request GET "/actions/$action" || fail "$1: reading action $action: $problem"
	done
}

# find_floating_ip sets id, and owner to the ID of the server that it is assigned to, if any.
# https://docs.hetzner.cloud/reference/cloud#tag/floating-ips/get_floating_ip
# https://docs.hetzner.cloud/reference/cloud#tag/floating-ips/list_floating_ips
find_floating_ip() {
	id=${HCLOUD_FLOATING_IP_ID-}
	if [ -n "$id" ]; then
		request GET "/floating_ips/$id" || fail "reading Floating IP $id: $problem"
		answer=$(json .floating_ip)
	else
		# The API has no filter for addresses. Of an IPv6 Floating IP it has the network.
		page=1
		while [ -n "$page" ]; do
			request GET "/floating_ips?per_page=50&page=$page" || fail "listing the Floating IPs: $problem"
			page=$(json '.meta.pagination.next_page // empty')
			# shellcheck disable=SC2016 # the variable is jq's
			found=$(json --arg ip "$address" '.floating_ips[]? | select(.ip == $ip)')
			[ -z "$found" ] || break
		done
		answer=$found
		[ -n "$answer" ] || fail "no Floating IP of this project has the address $address; set HCLOUD_FLOATING_IP_ID for IPv6"
	fi
	id=$(json '.id // empty')
	[ -n "$id" ] || fail "the API's answer has no Floating IP"
	case $address in
	*:*) ;;
	*) [ "$(json .ip)" = "$address" ] || fail "Floating IP $id is $(json .ip), not $address" ;;
	esac
	owner=$(json '.server // empty')
}

# assign moves the address to this server, also if it is assigned to another one. If another
# node had it, that one may unassign it at the same time: it reads that the address is its own
# and acts on that a moment later. So this script looks once more when that must be over. The
# agent runs a hook that fails again.
# https://docs.hetzner.cloud/reference/cloud#tag/floating-ip-actions/assign_floating_ip
assign() {
	find_floating_ip
	what="assigning Floating IP $id ($address) to server $server"
	if [ "$owner" = "$server" ]; then
		echo "Floating IP $id ($address) is already assigned to server $server"
		return
	fi
	if ! request POST "/floating_ips/$id/actions/assign" "{\"server\":$server}"; then
		# The documentation does not say whether this error means any server or only this one.
		[ "$code" = floating_ip_assigned ] || fail "$what: $problem"
		request POST "/floating_ips/$id/actions/unassign" '{}' || fail "$what: unassigning it first: $problem"
		finish "$what: unassigning it first"
		request POST "/floating_ips/$id/actions/assign" "{\"server\":$server}" || fail "$what: $problem"
	fi
	finish "$what"
	if [ -n "${CONSUL_VIP_HOOK_PREVIOUS_NODE-}" ]; then
		sleep "${HCLOUD_CONFIRM_DELAY:-5}"
		find_floating_ip
		[ "$owner" = "$server" ] || fail "$what: it was assigned to ${owner:-no server} afterwards"
	fi
	echo "assigned Floating IP $id ($address) to server $server"
}

# unassign takes the address from this server, if it has it still. The API unassigns from any
# server, so the script reads first. The delay leaves time to the new owner: it takes the address
# over directly, and this script then has nothing to do. Without it both would change the same
# address at the same time.
# https://docs.hetzner.cloud/reference/cloud#tag/floating-ip-actions/unassign_floating_ip
unassign() {
	sleep "${HCLOUD_UNASSIGN_DELAY:-2}"
	find_floating_ip
	what="unassigning Floating IP $id ($address) from server $server"
	if [ "$owner" != "$server" ]; then
		echo "Floating IP $id ($address) is not assigned to server $server"
		return
	fi
	request POST "/floating_ips/$id/actions/unassign" '{}' || fail "$what: $problem"
	finish "$what"
	echo "unassigned Floating IP $id ($address) from server $server"
}

# read_token sets token. Its characters are checked because it becomes part of curl's configuration.
read_token() {
	token=${HCLOUD_TOKEN-}
	if [ -z "$token" ]; then
		[ -r "$token_file" ] || fail "the token file $token_file is missing or not readable"
		read -r token <"$token_file" || :
	fi
	case $token in
	'' | *[!A-Za-z0-9._~+/=-]*) fail "the API token is empty or has characters that no token has" ;;
	esac
}

# find_server sets server. https://docs.hetzner.cloud/reference/cloud#description/server-metadata
find_server() {
	server=${HCLOUD_SERVER_ID-}
	if [ -z "$server" ]; then
		server=$(curl -q -sS --noproxy '*' --connect-timeout 2 --max-time 5 "$metadata/instance-id" 2>&1) ||
			fail "the metadata service does not tell the server's ID: $(curl_error "$server")"
	fi
	case $server in
	'' | *[!0-9]*) fail "the metadata service does not answer with the server's ID; set HCLOUD_SERVER_ID" ;;
	esac
}

case ${CONSUL_VIP_HOOK_EVENT-} in
acquired | released | lost | conflict) ;;
*) exit 0 ;;
esac
address=${CONSUL_VIP_HOOK_ADDRESS:?}
for program in curl jq; do
	command -v "$program" >/dev/null || fail "$program is not installed"
done
read_token
find_server
case $CONSUL_VIP_HOOK_EVENT in
acquired) assign ;;
*) unassign ;;
esac
