# What the agent may do in a Consul cluster with ACLs:
#
#   consul acl policy create -name consul-vip -rules @acl-policy.hcl
#   consul acl token create -description "consul-vip on h1" -policy-name consul-vip
#
# With another prefix or service in the configuration, change it here too.

# The locks, the owners' records, the list of members, and what operators write: pins
# and drained nodes, which the agent only reads, and requests for release, which it
# deletes. The slash matters: without it "consul-vip-backup" would be covered as well.
key_prefix "consul-vip/" {
  policy = "write"
}

# A lock is held by a session, and a session belongs to a node: the agent
# creates, renews and destroys the one of its own node, and looks up those of
# others to say who holds an address. To bind a token to one host, write
# session "h1" { policy = "write" } and session_prefix "" { policy = "read" }.
session_prefix "" {
  policy = "write"
}

# The agent registers itself as this service, with the check that ends its
# session when it is killed or hangs.
service "consul-vip" {
  policy = "write"
}

# To ask the local Consul agent for its node name and settings, none of which
# this rule allows to change. No rule for nodes is needed.
agent_prefix "" {
  policy = "read"
}
