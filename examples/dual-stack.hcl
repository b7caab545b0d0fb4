# A name with an A and an AAAA record in front of a load balancer: an IPv4 and an IPv6
# address on the same interface. Each has a lock and an owner of its own, so the two may be
# on different hosts; give them the same order of priorities if they are to be on the same
# one as long as it lives.
#
# All hosts use the same file. VIP_PRIORITY=10 on the first host makes it the preferred one.

vip "10.77.0.100" {
  priority = env("VIP_PRIORITY", "100")
}

vip "fd77::100" {
  priority = env("VIP_PRIORITY", "100")
}
