# One floating address. The interface is the one whose subnet contains it, and
# Consul is the agent on this host.
vip "10.77.0.100" {}
