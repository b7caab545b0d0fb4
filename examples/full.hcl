# Every key with its default. Leave out what you do not change: minimal.hcl is
# this file without the repetition. null means "not set" and is the same as
# leaving the key out.
#
# Durations are text with a unit: "30s", "1m30s", "500ms". In any value,
# env("NAME") is an environment variable and env("NAME", "default") one that may
# be missing or empty.
#
# The configuration may be spread over several files of a directory. Top-level
# keys and the consul block belong in one of them, vip blocks in any.

# trace, debug, info, warn or error.
log_level = "info"

# true: one JSON object per line instead of text, for a log collector.
log_json = false

# This host's name among the contenders. Unset: the node name of the local
# Consul agent. Change it only if two instances share one agent.
node_name = null

consul {
  # The agent on this host: host:port, or an http, https or unix URL. Unset:
  # CONSUL_HTTP_ADDR, else 127.0.0.1:8500. TLS and everything else come from
  # the usual environment (CONSUL_CACERT, CONSUL_HTTP_SSL ...). Always use the
  # local agent: its own failure is one of the things that move an address.
  address = null

  # A file that holds the ACL token; acl-policy.hcl is what the token needs.
  # It is read for every request, so a new token needs no restart. Unset:
  # CONSUL_HTTP_TOKEN_FILE, else CONSUL_HTTP_TOKEN. A token itself does not belong in
  # this file.
  token_file = null

  # Where the locks are kept in Consul's KV store: PREFIX/ADDRESS/.lock. All
  # hosts of a cluster need the same. Change it for a second, separate set of
  # hosts, and the ACL policy with it.
  prefix = "consul-vip"

  # The service that every instance registers with its Consul agent.
  service = "consul-vip"

  # How long an instance may go without an answer from Consul before it gives
  # up its addresses, 10s to 24h. At 30s an ordinary crash of Consul's leader
  # moves nothing: with Consul's default raft_multiplier an election takes about
  # 12s. Below 20s set raft_multiplier = 1 on the servers. A higher value
  # rides out longer outages of Consul, but a host that is cut off from Consul
  # alone serves for as long, while no other can take over.
  session_ttl = "30s"

  # How soon Consul notices that an instance was killed or hangs, 2s to 1m. The
  # agent refreshes it several times in between, which costs Consul's servers
  # nothing. "0s" turns it off; then only session_ttl notices.
  check_ttl = "3s"
}

# One block per floating address, IPv4 for now. A prefix length may follow, as in
# "10.77.0.100/24"; keep the default, /32, unless the address has to bring its
# subnet's route along.
vip "10.77.0.100" {
  # The interface to bind it to. Unset: the one whose subnet contains the
  # address; if several do, or none, the agent refuses to start.
  interface = null

  # Who is preferred, 0 to 1000, the lower number first. Hosts of equal
  # priority share several addresses evenly. A running owner keeps its address
  # even if a preferred host comes back, unless preempt is set.
  priority = 100

  # When another host on the network claims the address:
  #   "exit"    unbind, release the lock and exit with status 5; the supervisor
  #             restarts the agent, which contends again
  #   "quit"    the same with status 0, for a supervisor that then leaves it
  #   "defend"  announce the address again if Consul confirms the lock, else exit
  #   "log"     only say so, while both hosts answer for the address
  on_conflict = "exit"

  # When the lock is lost but Consul is well, for example because somebody
  # deleted the key, or when another program removed the address five times
  # within a minute: "exit" unbinds and exits with status 4, "contend" unbinds
  # this address only and queues up again.
  on_loss = "exit"

  # Before binding an address whose last owner did not release it: "probe" asks
  # the network and binds once nobody answers; "strict" waits out the last
  # owner's session_ttl first, for networks that can split in two halves.
  takeover = "probe"

  # Whether a running owner hands the address to a node with a better priority
  # (or, among equal ones, the node whose share of the addresses it is) once that
  # node has been there for preempt_delay, 1s to 1h. Off, an address moves only
  # when it must or is pinned elsewhere. Set it alike on all hosts.
  preempt       = false
  preempt_delay = "10s"

  # How long the kernel keeps the address without hearing from the agent, whole
  # seconds, at least 2s and less than session_ttl - 1s. It is refreshed every
  # second. If the agent is killed or hangs, the address is gone after this
  # time. Raise it on hosts that may stall for seconds, such as small virtual
  # machines.
  dead_man = "5s"

  # A held address is announced when it is bound, several times in the first
  # seconds, and from then on every interval, 1s to 1h, give or take at most
  # jitter. Leave it unless switches here forget addresses sooner. Unset, jitter
  # is a tenth of interval.
  announce {
    interval = "10s"
    jitter   = "1s"
  }
}
