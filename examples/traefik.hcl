# Two addresses in front of Traefik, or of any load balancer that runs on every host. The
# service's name resolves to both addresses. Each host is preferred for one of them. When
# one host fails, the other holds both. It keeps both when the first is back, unless both
# blocks have preempt = true: then it transfers one.
#
# All hosts use the same file. Their differences are in the environment, for example
# VIP_A_PRIORITY=10 on the first host and VIP_B_PRIORITY=10 on the second.

log_json = true

consul {
  # For a Consul with ACLs. The supervisor provides the token file.
  token_file = env("VIP_TOKEN_FILE", "/etc/consul-vip/token")
}

vip "10.77.0.101" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_A_PRIORITY", "100")
}

vip "10.77.0.102" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_B_PRIORITY", "100")

  # If the lock of this address is lost, do not restart the agent: that would also
  # interrupt the other address.
  on_loss = "contend"
}
