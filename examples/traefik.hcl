# Two addresses in front of Traefik, or of any load balancer that runs on every host. The
# service's name resolves to both addresses. Each host is preferred for one of them. When
# one host fails, or Traefik on it, another holds both. It keeps both when the first is back,
# unless both blocks have preempt = true: then it transfers one.
#
# Traefik needs --ping=true, and must listen on all addresses of its host: then it also serves
# one that comes later, without net.ipv4.ip_nonlocal_bind. To stop Traefik without refusing a
# connection, set requestAcceptGraceTimeout=5s for the entry point of the ping and for that of
# the service (--entryPoints.NAME.transport.lifeCycle). For so long it serves while
# its ping fails, and the address moves meanwhile.
#
# All hosts use the same file. Their differences are in the environment, for example
# VIP_A_PRIORITY=10 on the first host and VIP_B_PRIORITY=10 on the second.

log_json = true

consul {
  # For a Consul with ACLs. The supervisor provides the token file.
  token_file = env("VIP_TOKEN_FILE", "/etc/consul-vip/token")
}

# Traefik's ping on this host. An address that requires it goes only to hosts where it
# answers, as long as there is one.
check "traefik" {
  http = "http://127.0.0.1:8080/ping"
}

vip "10.77.0.101" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_A_PRIORITY", "100")
  require   = ["traefik"]
}

vip "10.77.0.102" {
  interface = env("VIP_INTERFACE", "eth0")
  priority  = env("VIP_B_PRIORITY", "100")
  require   = ["traefik"]

  # If the lock of this address is lost, do not restart the agent: that would also
  # interrupt the other address.
  on_loss = "contend"
}
