# Every key with its default. Leave out the keys that you do not change:
# minimal.hcl is this file without the defaults. null means "not set" and is the
# same as leaving out the key.
#
# A duration is text with a unit: "30s", "1m30s", "500ms". In any value,
# env("NAME") is an environment variable, and env("NAME", "default") is one that
# may be missing or empty.
#
# You can split the configuration into several files of a directory. Top-level
# keys, the consul block and the host_check block belong in one of them, vip blocks
# in any.

# trace, debug, info, warn or error.
log_level = "info"

# true: one JSON object per line instead of text, for a log collector.
log_json = false

# This host's name among the members. Unset: the node name of the local Consul
# agent. Change it only if two instances share one agent.
node_name = null

# Where this instance tells its status to "consul-vip status -local" on its own host, also
# while Consul is down: the absolute path of a unix socket, at most 107 bytes, that only
# the agent's user and root can connect to. "" turns it off. The directory must exist; the
# default is off without it. With several instances on one host each needs its own.
socket = "/run/consul-vip/agent.sock"

consul {
  # The agent on this host: host:port, or an http, https or unix URL. Unset:
  # CONSUL_HTTP_ADDR, else 127.0.0.1:8500. TLS and other settings come from the
  # usual environment (CONSUL_CACERT, CONSUL_HTTP_SSL ...). Always use the local
  # agent: its own failure is one of the things that move an address.
  address = null

  # A file with the ACL token; acl-policy.hcl lists the permissions that the token
  # needs. The agent reads the file for every request, so a new token needs no
  # restart. Unset: CONSUL_HTTP_TOKEN_FILE, else CONSUL_HTTP_TOKEN. Do not write the
  # token itself into this file.
  token_file = null

  # Where the locks are in Consul's KV store: PREFIX/ADDRESS/.lock. All hosts of a
  # cluster need the same prefix. For a second, separate set of hosts change it, and
  # the ACL policy too.
  prefix = "consul-vip"

  # The service that every instance registers with its Consul agent.
  service = "consul-vip"

  # How long an instance keeps its addresses without an answer from Consul, 10s to
  # 24h. With 30s, an ordinary crash of Consul's leader moves nothing: with
  # Consul's default raft_multiplier an election takes about 12s. Below 20s, set
  # raft_multiplier = 1 on the servers. A higher value rides out longer outages of
  # Consul. But then a host that alone is cut off from Consul also serves for
  # longer, while no other host can take over.
  session_ttl = "30s"

  # How soon Consul notices a killed or frozen instance, 2s to 1m. The agent
  # refreshes its check twice a second, which costs Consul's servers nothing. The
  # Consul agent of this host may be restarted within check_ttl - 1.5s without any
  # effect on the addresses: with 5s, if it answers again after 3.5s. "0s" turns the
  # check off; then only session_ttl notices.
  check_ttl = "5s"
}

# How a host that is first or second in line for an address watches the owner's host:
# every interval, 5ms to 1s, it asks on the wire for that host's own address. When
# so many in a row stay unanswered, 3 to 100, and the gateway or another host
# answers, the owner's host is dead, and the address moves without waiting for Consul
# to notice. With these values that takes a quarter of a second. A host that is paused
# for longer, such as a virtual machine during a snapshot, loses its addresses.
# misses = 0 turns the check off. docs/operating.md says what it costs your network.
host_check {
  interval = "25ms"
  misses   = 8
}

# A check of a service on this host. An address that requires it is served here only
# while it is fit. One check may be required by several addresses, and runs once.
check "traefik" {
  # What to check, one of:
  #   http     a URL to get; a status of 2xx is fit; redirects are not followed
  #   tcp      a host and a port to connect to
  #   command  a program and its arguments, without a shell; exit code 0 is fit, the
  #            first line of its output tells people why it is not; it is killed with
  #            its children at the timeout
  #   service  the health of a service that is registered with this host's Consul
  #            agent, as all its checks there say; rise and fall are then 1 by default
  # Never check through a floating address: its owner would answer.
  http    = "http://127.0.0.1:8080/ping"
  tcp     = null
  command = null
  service = null

  # With http: request headers; whether any certificate will do; and what to expect, a
  # status such as 204 or a text in the answer. Unset: 2xx.
  header          = null
  tls_skip_verify = false
  expect          = null

  # The time between two runs, 100ms to 1h, and how long one may take, less than that.
  interval = "1s"
  timeout  = "500ms"

  # How many runs in a row, 1 to 100, must succeed before the service is fit, and fail
  # before it is not. Before the first ones it is not fit.
  rise = 3
  fall = 2
}

# A program that is run when something happens to an address on this host. The hooks of
# one address run one after the other, in the order of the events. docs/hooks.md has
# their environment and what happens when one fails or hangs.
hook "notify" {
  # When to run it:
  #   "acquired"     this host serves the address
  #   "pre_release"  it is about to leave it to another host on purpose; that waits for
  #                  the hook, up to its timeout
  #   "released"     it has left it on purpose
  #   "lost"         it has left it because it lost the lock, the session, the link or
  #                  the address
  #   "conflict"     it has left it because another station has it
  #   "unfit"        a service that the address requires is not fit on this host
  #   "fit"          all of them are
  on = ["acquired", "released", "lost", "conflict", "unfit", "fit"]

  # The program and its arguments, without a shell.
  command = ["/etc/consul-vip/notify.sh"]

  # How long a run may take, 100ms to 5m; then it is killed with its children.
  timeout = "5s"

  # The addresses whose events count. Unset: all.
  vips = null
}

# One block per floating address, IPv4 or IPv6. A prefix length can follow, as in
# "10.77.0.100/24". Keep the default, /32 or /128, unless the address must add the route
# of its subnet.
vip "10.77.0.100" {
  # With false, this host does nothing for the address but hold its lock and run its
  # hooks, which attach a cloud's own floating address for example: see examples/cloud.
  # Then interface, on_conflict, takeover, dead_man, announce and host_check do not
  # belong in the block.
  bind = true

  # The interface to bind the address to. Unset: the one whose subnet contains the
  # address. If several do, or none, the agent does not start.
  interface = null

  # The preference of this host, 0 to 1000; the lowest number goes first. Hosts of
  # equal priority share several addresses evenly. A running owner keeps its address
  # when a preferred host returns, unless preempt is set.
  priority = 100

  # The reaction when another host on the network claims the address:
  #   "exit"    unbind it, release the lock and exit with code 5; the supervisor
  #             restarts the agent, which contends again
  #   "quit"    the same with code 0, for a supervisor that then does not restart it
  #   "contend" the same without exiting: only this address moves
  #   "defend"  announce the address again if Consul confirms the lock, else exit
  #   "log"     only log it, while both hosts answer for the address
  # If that host claims the address again within ten minutes, or answers when the
  # next owner probes, only this address is given up, with each of the first three.
  on_conflict = "exit"

  # The reaction when the lock is lost but the session is not, for example because
  # an operator deleted the key, or when another program removed the address five
  # times within a minute: "exit" unbinds it and exits with code 4, "contend" unbinds
  # only this address and contends for it again.
  on_loss = "exit"

  # What to do before binding an address that the previous owner did not release:
  # "probe" asks on the wire and binds when no station answers; "strict" first
  # waits for the previous owner's session_ttl, for networks that can split in two
  # halves. With "strict" there is no host check.
  takeover = "probe"

  # Whether a running owner hands the address to a node with a better priority (or,
  # among equal ones, to the node whose share of the addresses it is) once that node
  # has been a member for preempt_delay, 1s to 1h. If false, an address moves only
  # when it must or is pinned elsewhere. Use the same setting on all hosts.
  preempt       = false
  preempt_delay = "10s"

  # How long the kernel keeps the address without a refresh by the agent: whole
  # seconds, at least check_ttl + 2s (2s without a check) and less than
  # session_ttl - 1s. The agent refreshes it every second. If the agent is killed or
  # frozen, the address is gone after this time, and until then it goes on answering.
  # Raise it on hosts that may stall for seconds, such as small virtual machines.
  dead_man = "7s"

  # The checks that must be fit for this host to serve the address, such as ["traefik"]. If
  # one is not, the address moves to a host where all are. If no host is fit: "keep", the
  # owner serves on, or without an owner one of the others does; "release", nobody has
  # the address.
  require       = []
  when_none_fit = "keep"

  # The owner announces the address when it binds it, several times in the first
  # seconds, and then every interval, 1s to 1h, plus or minus at most jitter. Change
  # it only if your switches forget addresses sooner. Unset, jitter is a tenth of
  # interval.
  announce {
    interval = "10s"
    jitter   = "1s"
  }

  # The host check for this address alone. Unset keys are as in the block above.
  host_check {
    interval = "25ms"
    misses   = 8
  }
}
