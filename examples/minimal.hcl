# One floating address. It is bound to the interface whose subnet contains it, and Consul
# is the agent on this host.
vip "10.77.0.100" {}
