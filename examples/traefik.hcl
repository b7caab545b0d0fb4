# Two addresses in front of Traefik (or any load balancer that runs on every
# host): both names resolve to both addresses, each host prefers one, and one
# host carries the two while the other is away. It goes on carrying both when the
# other is back; with preempt = true in both blocks it hands one over.
#
# The same file serves all hosts. What differs comes from the environment, as in
# VIP_A_PRIORITY=10 on the first host and VIP_B_PRIORITY=10 on the second.

log_json = true

consul {
  # One agent with ACLs: the token file is where the supervisor put it.
  token_file = env("CONSUL_VIP_TOKEN_FILE", "/etc/consul-vip/token")
}

vip "10.77.0.101" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_A_PRIORITY", "100")
}

vip "10.77.0.102" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_B_PRIORITY", "100")

  # Losing this one alone must not disturb the other.
  on_loss = "contend"
}
